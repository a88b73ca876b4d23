"""cosign's private key file: PEM around a password-sealed PKCS #8 key.

PEM of type "ENCRYPTED SIGSTORE PRIVATE KEY" (formerly "COSIGN") holds JSON of go-securesystemslib's ``encrypted``:
scrypt makes a key from the password, and NaCl's secretbox seals the DER with it.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from pathlib import Path
from typing import Any

from nacl.bindings import crypto_pwhash_scryptsalsa208sha256_ll as scrypt
from nacl.bindings import crypto_secretbox, crypto_secretbox_open
from nacl.exceptions import CryptoError

from countersign.console.errors import UsageError

_FILE_LIMIT = 64 << 10  # bytes
_TYPES = ("ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY")
_N = 65536  # cosign's own: 0.1 s and 64 MiB
_ALLOWED = tuple({"N": n, "r": 8, "p": 1} for n in (32768, 65536, 131072))  # all that go-securesystemslib knows
_MEMORY = 256 << 20  # bytes; N=131072 takes half of it
_SALT, _NONCE, _KEY = 32, 24, 32  # bytes
_LINE = 64


class BadKey(UsageError):
    """A key file cannot be read, opened, or used."""


class WrongPassword(BadKey):
    """The password does not open the key."""


def seal(der: bytes, password: bytes) -> str:
    """Return the text of a key file that holds ``der``, as ``cosign generate-key-pair`` would write it."""
    salt, nonce = os.urandom(_SALT), os.urandom(_NONCE)
    box = {
        "kdf": {"name": "scrypt", "params": {"N": _N, "r": 8, "p": 1}, "salt": _b64(salt)},
        "cipher": {"name": "nacl/secretbox", "nonce": _b64(nonce)},
        "ciphertext": _b64(crypto_secretbox(der, nonce, _derive(password, salt, _N))),
    }
    return armour(json.dumps(box, separators=(",", ":")).encode(), _TYPES[0])


def is_sealed(content: bytes) -> bool:
    """Say whether a key file's content takes a password."""
    return any(content.lstrip().startswith(f"-----BEGIN {kind}-----".encode()) for kind in _TYPES)


def unseal(content: bytes, password: bytes, where: str) -> bytes:
    """Return the PKCS #8 DER in a key file's content.

    Args:
        content: the file's bytes; ``is_sealed`` holds.
        password: what opens it; may be empty.

    Raises:
        WrongPassword: if the password does not open it.
        BadKey: if the file is damaged, or sealed in another way than cosign's.
    """
    salt, nonce, ciphertext, n = _parse(_unarmour(content, where), where)
    try:
        return bytes(crypto_secretbox_open(ciphertext, nonce, _derive(password, salt, n)))
    except CryptoError as err:
        raise WrongPassword("the password does not open the key", where=where) from err


def read(path: Path) -> bytes:
    """Return the content of a key file.

    Raises:
        BadKey: if it cannot be read or is over 64 KiB.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_FILE_LIMIT + 1)
    except OSError as err:
        raise BadKey(f"the key cannot be read: {err.strerror}", where=str(path)) from err
    if len(content) > _FILE_LIMIT:
        raise BadKey(f"over {_FILE_LIMIT >> 10} KiB", where=str(path), expected="a key")
    return content


def armour(content: bytes, kind: str) -> str:
    """Return PEM text (RFC 7468)."""
    text = _b64(content)
    lines = [text[i : i + _LINE] for i in range(0, len(text), _LINE)]
    return "\n".join((f"-----BEGIN {kind}-----", *lines, f"-----END {kind}-----", ""))


def _unarmour(content: bytes, where: str) -> bytes:
    """Return what is inside the one PEM block."""
    lines = content.decode("ascii", errors="replace").split("\n")
    lines = [line.strip() for line in lines if line.strip()]
    kind = lines[0].removeprefix("-----BEGIN ").removesuffix("-----")
    if lines[-1] != f"-----END {kind}-----":
        raise BadKey("the PEM block has no end", where=where)
    try:
        return base64.b64decode("".join(lines[1:-1]), validate=True)
    except (binascii.Error, ValueError) as err:
        raise BadKey("the PEM block holds no base64", where=where) from err


def _parse(content: bytes, where: str) -> tuple[bytes, bytes, bytes, int]:
    """Return salt, nonce, ciphertext and scrypt's N."""
    try:
        box: Any = json.loads(content)
        kdf, cipher = box["kdf"], box["cipher"]
        names, params = (kdf["name"], cipher["name"]), dict(kdf["params"])
        salt, nonce = _bytes(kdf["salt"]), _bytes(cipher["nonce"])
        ciphertext = _bytes(box["ciphertext"])
    except (ValueError, KeyError, TypeError, RecursionError) as err:
        raise BadKey("what is in the PEM block cannot be read", where=where, expected="cosign's format") from err
    if names != ("scrypt", "nacl/secretbox") or params not in _ALLOWED or len(nonce) != _NONCE:
        raise BadKey(f"sealed with {names} {params}", where=where, expected="cosign's scrypt and nacl/secretbox")
    return salt, nonce, ciphertext, int(params["N"])


def _derive(password: bytes, salt: bytes, n: int) -> bytes:
    """Run scrypt; libsodium's takes three quarters of OpenSSL's time."""
    return bytes(scrypt(password, salt, n, 8, 1, dklen=_KEY, maxmem=_MEMORY))


def _b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _bytes(text: Any) -> bytes:
    return base64.b64decode(text, validate=True)
