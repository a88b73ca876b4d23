"""Where a private key is kept, as ``--key`` says: a file, or ``env:NAME``, or a place that it never leaves."""

from __future__ import annotations

import base64
import binascii
import io
import re
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countersign.console.errors import InfrastructureError, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    from countersign.keys.pair import PrivateKey

    Kept = EllipticCurvePrivateKey | RSAPrivateKey

PASSWORD = "COSIGN_PASSWORD"  # noqa: S105  the variable's name
HELP = "private key: a file, env:NAME, pkcs11:…, hashivault://KEY, openbao://KEY, a cloud's KMS, k8s://NAMESPACE/SECRET"
_ENV, _K8S = "env:", "k8s://"
_SCHEME_RE = re.compile(r"(?:[a-z][a-z0-9+.-]*://|env:|pkcs11:).*", re.DOTALL)
_KNOWN = "a file, env:NAME, pkcs11:…, hashivault://, openbao://, awskms://, gcpkms://, azurekms://, k8s://"
_LIMIT = 64 << 10  # bytes


def is_remote(text: str) -> bool:
    """Say whether a key is remote, and not in a file."""
    return _SCHEME_RE.fullmatch(text) is not None


def opening(text: str, password_file: Path | None, environ: Mapping[str, str]) -> Callable[[], PrivateKey]:
    """Open a key that is not in a file; it is there, and one is logged in, before anything is signed.

    Args:
        text: what ``is_remote`` holds for.
        password_file: a file with the password or PIN.
        environ: the environment: what keeps keys is found, and logged in to, as its own programs do it.

    Raises:
        CountersignError: in one line, why it cannot be used.
    """
    key = _open(text, password_file, environ)
    return lambda: key


def for_notation(text: str, password_file: Path | None, environ: Mapping[str, str]) -> Kept | None:
    """Open a key in a token or a vault, of any kind that the Notary Project signs with; None for other places.

    Raises:
        CountersignError: in one line, why it cannot be used.
    """
    from countersign.keys import hsm, vault
    from countersign.keys.remote import behind

    if text.startswith(hsm.SCHEME):
        return behind(hsm.open_key(hsm.parse(text, environ), password_file, environ))
    return behind(vault.open_key(text, environ)) if text.startswith(vault.SCHEMES) else None


def private_key(text: str, environ: Mapping[str, str]) -> PrivateKey:
    """Open a key wherever it is kept; the password of a file is asked for where none is given or beside it.

    Args:
        text: the key's file, or what ``is_remote`` holds for.

    Raises:
        CountersignError: in one line, why it cannot be used.
    """
    from countersign.keys import password, sealed
    from countersign.keys.pair import load_private

    if is_remote(text):
        return _open(text, None, environ)
    path = Path(text).expanduser()
    if not sealed.is_sealed(sealed.read(path)):
        return load_private(path)
    beside, given = path.with_suffix(".password"), environ.get(PASSWORD)
    file = beside if given is None and beside.is_file() else None
    return load_private(path, password.choose(file, given, str(path)))


def _open(text: str, password_file: Path | None, environ: Mapping[str, str]) -> PrivateKey:
    from countersign.keys import clouds, hsm, vault
    from countersign.keys.remote import private

    if text.startswith(_ENV):
        name = text.removeprefix(_ENV).removeprefix("//")
        if not environ.get(name):
            raise UsageError(f"the variable {name!r} is not set", where="--key", expected="a private key in it")
        return _held(environ[name].encode(), f"{_ENV}{name}", password_file, environ.get(PASSWORD))
    if text.startswith(hsm.SCHEME):
        return private(hsm.open_key(hsm.parse(text, environ), password_file, environ))
    if text.startswith(vault.SCHEMES):
        return private(vault.open_key(text, environ))
    if text.startswith(clouds.SCHEMES):
        return private(clouds.open_key(text))
    if text.startswith(_K8S):
        return _of_secret(text, password_file, environ)
    raise UsageError(f"got {text.partition(':')[0]}:", where="--key", expected=_KNOWN)


def _held(content: bytes, where: str, password_file: Path | None, given: str | None) -> PrivateKey:
    """Return a key that was given to us, sealed or in the clear."""
    from countersign.keys import password, sealed
    from countersign.keys.pair import parse_private

    if len(content) > _LIMIT:
        raise UsageError(f"over {_LIMIT >> 10} KiB", where=where, expected="a key")
    if sealed.is_sealed(content):
        content = sealed.unseal(content, password.choose(password_file, given, where), where)
    return parse_private(content, where)


def _of_secret(text: str, password_file: Path | None, environ: Mapping[str, str]) -> PrivateKey:
    """Return the key that ``cosign generate-key-pair k8s://…`` keeps in a Secret, opened by the password beside it."""
    namespace, slash, name = text.removeprefix(_K8S).partition("/")
    if not (namespace and slash and name) or "/" in name:
        raise UsageError(f"got {text!r}", where="--key", expected="k8s://NAMESPACE/SECRET")
    data = _secret(namespace, name, text)
    try:
        content = base64.b64decode(data["cosign.key"], validate=True)
        kept = base64.b64decode(data.get("cosign.password", ""), validate=True).decode()
    except (KeyError, binascii.Error, UnicodeDecodeError) as err:
        raise UsageError("the Secret holds no key", where=text, expected="cosign.key and cosign.password") from err
    given = environ.get(PASSWORD)
    return _held(content, text, password_file, given if given is not None else kept)


def _secret(namespace: str, name: str, where: str) -> Mapping[str, Any]:
    from kubernetes import client, config
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    try:
        with redirect_stdout(io.StringIO()):  # it prints there where it looks, and stdout may be a document
            config.load_config()  # type: ignore[no-untyped-call]
        found = client.CoreV1Api().read_namespaced_secret(name, namespace, _request_timeout=20)
    except ApiException as err:
        raise UsageError(f"the API server says {err.status} {err.reason}", where=where) from err
    except (config.ConfigException, HTTPError) as err:
        what = " ".join(str(err).split())[:200]
        raise InfrastructureError(f"no cluster answers: {what}", where=where, do="see kubectl config view") from err
    return found.data or {}
