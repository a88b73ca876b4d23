"""Keys: making, reading and using them. Private keys lie in cosign's format (``sealed``) or as bare PKCS #8."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from countersign.keys.sealed import BadKey, WrongPassword, armour, is_sealed, read, seal, unseal

_RSA_BITS = range(2048, 8192 + 1)  # the gate's bounds: below is weak, above takes long at every container start
_KINDS = "ECDSA P-256, P-384 or P-521, RSA of 2048 to 8192 bits, or Ed25519"
_CURVES: Mapping[str, tuple[str, hashes.HashAlgorithm]] = {
    "secp256r1": ("P-256", hashes.SHA256()),
    "secp384r1": ("P-384", hashes.SHA384()),
    "secp521r1": ("P-521", hashes.SHA512()),
}

_Public = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey
_Private = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class PublicKey:
    """A key that verifies.

    Attributes:
        der: its SubjectPublicKeyInfo.
    """

    der: bytes
    _key: _Public = field(repr=False, compare=False)

    @property
    def fingerprint(self) -> str:
        """``sha256:<hex>`` of the DER: what ``revoked.keys`` of a policy names."""
        return "sha256:" + hashlib.sha256(self.der).hexdigest()

    @property
    def hint(self) -> str:
        """How a Sigstore bundle names the key: base64 of the DER's sha256."""
        return base64.b64encode(hashlib.sha256(self.der).digest()).decode()

    @property
    def pem(self) -> str:
        """The PEM text, as cosign writes it."""
        return armour(self.der, "PUBLIC KEY")

    @property
    def kind(self) -> str:
        """A name for people: "ECDSA P-256", "RSA 3072", "Ed25519"."""
        if isinstance(self._key, ec.EllipticCurvePublicKey):
            return f"ECDSA {_CURVES[self._key.curve.name][0]}"
        return f"RSA {self._key.key_size}" if isinstance(self._key, rsa.RSAPublicKey) else "Ed25519"

    def verifies(self, signature: bytes, data: bytes, *, sha256: bool = False) -> bool:
        """Say whether ``signature`` over ``data`` is by this key, hashed as the gate's engines hash.

        Args:
            signature: ASN.1 for ECDSA, PKCS #1 v1.5 for RSA, pure Ed25519.
            sha256: SHA-256 alone, as in attachments; else a larger curve's own hash is good too.
        """
        if isinstance(self._key, ec.EllipticCurvePublicKey):
            known: dict[str, hashes.HashAlgorithm] = {"sha256": hashes.SHA256()}
            if not sha256:
                own = _CURVES[self._key.curve.name][1]
                known[own.name] = own
            return any(_holds(self._key, signature, data, ec.ECDSA(one)) for one in known.values())
        if isinstance(self._key, rsa.RSAPublicKey):
            return _holds(self._key, signature, data, padding.PKCS1v15(), hashes.SHA256())
        return _holds(self._key, signature, data)


@dataclass(frozen=True)
class PrivateKey:
    """A key that signs: ECDSA P-256 or RSA, where every engine hashes with SHA-256.

    On the larger curves cosign signs with the curve's own hash and verifies bundles with SHA-256, and CRI-O's engine
    knows SHA-256 alone: no signature would hold everywhere.
    """

    public: PublicKey
    _key: _Private = field(repr=False, compare=False)

    def sign(self, data: bytes) -> bytes:
        """Sign ``data`` with SHA-256: ASN.1 for ECDSA, PKCS #1 v1.5 for RSA."""
        if isinstance(self._key, rsa.RSAPrivateKey):
            return self._key.sign(data, padding.PKCS1v15(), hashes.SHA256())
        return self._key.sign(data, ec.ECDSA(hashes.SHA256()))

    def sealed(self, password: bytes) -> str:
        """Return the text of the private key's file, in cosign's format."""
        der = self._key.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return seal(der, password)


def generate() -> PrivateKey:
    """Make an ECDSA P-256 key."""
    return private_key(ec.generate_private_key(ec.SECP256R1()), "a new key")


_NO_PUBLIC_KEYS = {
    b" PRIVATE KEY-----": "a private key",
    b"-----BEGIN CERTIFICATE": "a certificate",
    b"-----BEGIN PGP ": "a PGP block",
    b"ssh-rsa AAAA": "a key in OpenSSH's format",
    b"ssh-ed25519 AAAA": "a key in OpenSSH's format",
    b"ecdsa-sha2-nistp": "a key in OpenSSH's format",
}
"""Marks of what people give by mistake → what it is."""


def load_public(path: Path) -> PublicKey:
    """Read a PEM public key: ECDSA P-256, P-384 or P-521, RSA of 2048 to 8192 bits, or Ed25519.

    Raises:
        BadKey: if it cannot be read or is none of these.
    """
    return parse_public(read(path), str(path))


def parse_public(content: bytes, where: str) -> PublicKey:
    """Read a PEM public key from memory; see ``load_public``."""
    if content.count(b"-----BEGIN ") > 1:
        raise BadKey("more than one PEM block", where=where, expected="one public key a file")
    for mark, what in _NO_PUBLIC_KEYS.items():  # said before parsing: a private key must not go on to a node
        if mark in content:
            raise BadKey(f"{what} where a public key belongs", where=where, expected="-----BEGIN PUBLIC KEY-----")
    try:
        key = serialization.load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm) as err:
        raise BadKey("no public key in PEM", where=where, expected="-----BEGIN PUBLIC KEY-----") from err
    return _public(key, where)


def load_private(path: Path, password: bytes | None = None) -> PrivateKey:
    """Read a private key: cosign's format, or bare PKCS #8.

    Args:
        password: what opens it (may be empty); None if there is none. A bare key needs none.

    Raises:
        WrongPassword: if it needs another password, or one at all.
        BadKey: if it cannot be read or is not a key that we sign with.
    """
    content, where = read(path), str(path)
    if is_sealed(content):
        if password is None:
            raise WrongPassword("the key is sealed and there is no password", where=where)
        return parse_private(unseal(content, password, where), where)
    return parse_private(content, where)


def parse_private(content: bytes, where: str) -> PrivateKey:
    """Read a private key from memory, in the clear: PKCS #8 in DER or PEM.

    Raises:
        BadKey: if it is not a key that we sign with.
    """
    pem = content.lstrip().startswith(b"-----BEGIN ")
    load = serialization.load_pem_private_key if pem else serialization.load_der_private_key
    try:
        key = load(content, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as err:
        expected = "cosign's private key format, or PKCS #8 in the clear"
        raise BadKey("no private key that can be read", where=where, expected=expected) from err
    return private_key(key, where)


def private_key(key: object, where: str) -> PrivateKey:
    """Return cryptography's key as one that signs here.

    Raises:
        BadKey: if it is not a key that we sign with.
    """
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise BadKey(f"{type(key).__name__} does not sign here", where=where, expected="ECDSA P-256 or RSA")
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name != ec.SECP256R1.name:
        raise BadKey(f"ECDSA on {key.curve.name} does not sign here", where=where, expected="ECDSA P-256 or RSA")
    return PrivateKey(_public(key.public_key(), where), key)


def _public(key: object, where: str) -> PublicKey:
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey):
        raise BadKey(f"a key of kind {type(key).__name__}", where=where, expected=_KINDS)
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name not in _CURVES:
        raise BadKey(f"an ECDSA key on {key.curve.name}", where=where, expected=_KINDS)
    if isinstance(key, rsa.RSAPublicKey) and key.key_size not in _RSA_BITS:
        raise BadKey(f"an RSA key of {key.key_size} bits", where=where, expected=_KINDS)
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return PublicKey(der, key)


def _holds(key: Any, signature: bytes, data: bytes, *how: object) -> bool:
    try:
        key.verify(signature, data, *how)
    except InvalidSignature:
        return False
    return True
