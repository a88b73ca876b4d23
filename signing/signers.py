"""Who signs, by a task's options and the configuration: opened while the registry is asked."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from countersign.console.config import Settings
from countersign.console.errors import UsageError
from countersign.keys import source
from countersign.keys.source import HELP, PASSWORD

if TYPE_CHECKING:
    from countersign.keys.pair import PrivateKey
    from signing.signer import Signer

KEY_HELP = f"{HELP} (default: keys/cosign.key of the configuration)"
IDENTITY_HELP = (
    "sign without a key, as an identity that a Sigstore certifies: the token in FILE, else CI's, else log in"
)
CERTIFICATE_HELP = (
    "the key's certificate, PEM; its chain may follow (default: signing.certificate of the configuration)"
)


def opening(settings: Settings, key: str, certificate: str, identity: str | bool | None) -> Callable[[], Signer]:
    """Start to open who signs; return what waits for it.

    Args:
        key: a private key, as ``private`` takes it.
        certificate: file with its certificate; empty for the configuration's, if it has one.
        identity: sign without a key: with the token in this file, or (true) one that is to be had.

    Raises:
        UsageError: options that exclude each other, or files that cannot be used.
    """
    if identity:
        if key or certificate:
            other = "--key" if key else "--certificate"
            raise UsageError("got both", where=f"--identity, {other}", expected="one of them")
        return _identity(settings, None if identity is True else Path(str(identity)).expanduser())
    opened = private(settings, key)
    named = Path(certificate).expanduser() if certificate else settings.signing.certificate
    if named is None:
        return functools.partial(_by_key, opened)
    from countersign.oci.proxy import from_environment
    from signing import certified
    from signing.timestamp import Server

    files = certified.load(named, settings.signing.certificate_chain)
    url = settings.signing.timestamp_server
    server = Server(url, from_environment(os.environ)) if url else None
    return lambda: certified.signer(opened(), files, server)


def _by_key(private: Callable[[], PrivateKey]) -> Signer:
    from signing.signer import ByKey

    return ByKey(private())


def _identity(settings: Settings, file: Path | None) -> Callable[[], Signer]:
    from signing import identity

    opening = functools.partial(identity.open_config, settings.signing.trust_config, offline=settings.offline)
    found = identity.token(opening, file)
    config = opening()

    def opened() -> Signer:
        return identity.ByIdentity(config, found)

    return opened


def private(settings: Settings, key: str) -> Callable[[], PrivateKey]:
    """Start to open a private key, wherever it is kept; return what waits for it.

    Args:
        key: file of a private key, or what ``keys.source`` reads; empty for the default one.

    Raises:
        CountersignError: why it cannot be used, as far as that shows before it is waited for.
    """
    if source.is_remote(key):
        return source.opening(key, settings.signing.password_file, os.environ)
    path = Path(key).expanduser() if key else settings.keys / "cosign.key"
    opened = clear(path, settings.signing.password_file)

    def wait() -> PrivateKey:
        from countersign.keys.pair import parse_private

        return parse_private(opened(), str(path))

    return wait


def clear(path: Path, password_file: Path | None) -> Callable[[], bytes]:
    """Start to open a private key; return what waits for its file's content in the clear.

    The password's KDF takes 0.15 s of a core, in which the other one can load modules and ask the registry.
    """
    from countersign.keys import password, sealed

    content = sealed.read(path)
    if sealed.is_sealed(content):
        beside = path.with_suffix(".password")
        given = os.environ.get(PASSWORD)
        if password_file is None and given is None and beside.is_file():
            password_file = beside
        secret = password.choose(password_file, given, str(path))
        return ThreadPoolExecutor(1).submit(sealed.unseal, content, secret, str(path)).result
    return functools.partial(bytes, content)
