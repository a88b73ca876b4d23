"""Keys in the transit engine of Vault or OpenBao: ``hashivault://KEY``, ``openbao://KEY``, as cosign takes them.

Where it is and who we are come from the environment that its own programs read: ``VAULT_ADDR``, ``VAULT_TOKEN`` (for
OpenBao ``BAO_ADDR``, ``BAO_TOKEN``, which go first), else the file ``~/.vault-token``; the engine's path from
``TRANSIT_SECRET_ENGINE_PATH``.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes

from countersign.console.errors import InfrastructureError, UsageError
from countersign.keys.remote import Public, read_public

SCHEMES = ("hashivault://", "openbao://")
_SECONDS = 20
_NAME_RE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_TOKEN_LIMIT = 4096


def open_key(text: str, environ: Mapping[str, str]) -> Key:
    """Read the public half of the key's newest version, which then signs.

    Raises:
        UsageError: there is no address, token or key, or the token may not.
        InfrastructureError: it does not answer, or is sealed.
    """
    name = text.partition("://")[2]
    if not _NAME_RE.fullmatch(name):
        raise UsageError(f"{name!r} is not a key's name", where=text, expected="hashivault://KEY or openbao://KEY")
    prefixes = ("BAO", "VAULT") if text.startswith("openbao:") else ("VAULT",)

    def setting(what: str) -> str:
        return next((environ[f"{one}_{what}"] for one in prefixes if environ.get(f"{one}_{what}")), "")

    address = setting("ADDR")
    if not address:
        raise UsageError("where it is is not known", where=text, do=f"set {prefixes[0]}_ADDR")
    token = setting("TOKEN") or _token_file(environ)
    if not token:
        raise UsageError("there is no token", where=text, do=f"set {prefixes[0]}_TOKEN, or log in to ~/.vault-token")
    import hvac

    verify: bool | str = setting("CACERT") or True
    client = hvac.Client(address, token, verify=verify, timeout=_SECONDS, namespace=setting("NAMESPACE") or None)
    mount = environ.get("TRANSIT_SECRET_ENGINE_PATH") or "transit"
    where = f"{text} at {address}"
    read = _called(where, lambda: client.secrets.transit.read_key(name, mount_point=mount))
    try:
        version = int(read["data"]["latest_version"])
        public = read["data"]["keys"][str(version)]["public_key"]
    except (KeyError, TypeError, ValueError) as err:
        kind = read.get("data", {}).get("type", "?") if isinstance(read, dict) else "?"
        raise UsageError(f"a key of type {kind}", where=where, expected="ecdsa-p256 or rsa") from err
    return Key(where, read_public(str(public).encode(), where), client, name, mount, version)


@dataclass(frozen=True)
class Key:
    """One version of a key in a transit engine."""

    where: str
    public: Public
    _client: Any = field(repr=False)
    _name: str = ""
    _mount: str = ""
    _version: int = 0

    def sign_digest(self, digest: bytes, algorithm: hashes.HashAlgorithm, *, pss: bool = False) -> bytes:
        """Have it sign a digest, with the version whose public half was read."""
        answer = _called(
            self.where,
            lambda: self._client.secrets.transit.sign_data(
                self._name,
                hash_input=base64.b64encode(digest).decode(),
                key_version=self._version,
                hash_algorithm=algorithm.name.replace("sha", "sha2-"),
                prehashed=True,
                signature_algorithm="pss" if pss else "pkcs1v15",
                salt_length="hash" if pss else None,
                marshaling_algorithm="asn1",
                mount_point=self._mount,
            ),
        )
        try:
            return base64.b64decode(answer["data"]["signature"].rpartition(":")[2], validate=True)
        except (KeyError, TypeError, AttributeError, binascii.Error) as err:
            raise InfrastructureError("its answer has no signature", where=self.where) from err


def _token_file(environ: Mapping[str, str]) -> str:
    """Return the token that a login has left, or ""."""
    path = Path(environ.get("HOME", "/nonexistent")) / ".vault-token"
    try:
        with path.open(encoding="ascii") as file:
            return file.read(_TOKEN_LIMIT).strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _called(where: str, call: Callable[[], Any]) -> Any:
    """Ask; what goes wrong is said in one line."""
    import requests
    from hvac import exceptions

    try:
        return call()
    except exceptions.VaultDown as err:
        sealed = "sealed" in str(err).lower()
        what, do = ("it is sealed", "have it unsealed") if sealed else (f"it is down: {_line(err)}", "try again later")
        raise InfrastructureError(what, where=where, do=do) from err
    except exceptions.Forbidden as err:
        raise UsageError("the token may not use this key", where=where, do="log in as one who may") from err
    except exceptions.InvalidPath as err:
        raise UsageError("there is no such key, or no transit engine at that path", where=where) from err
    except (exceptions.VaultError, ValueError) as err:
        raise InfrastructureError(f"it refuses: {_line(err)}", where=where) from err
    except requests.RequestException as err:
        raise InfrastructureError(f"it does not answer: {type(err).__name__}", where=where) from err


def _line(err: Exception) -> str:
    return " ".join(str(err).split())[:200]
