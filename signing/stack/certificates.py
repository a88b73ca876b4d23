"""The keys and certificates of a private Sigstore, as files in memory."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from countersign.keys import issue
from countersign.keys.issue import builder, leaf, usage

_LIFETIME = dt.timedelta(days=3650)
_ORGANISATION = "private Sigstore"

Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True)
class Chain:
    """A key and its certificates.

    Attributes:
        key: of the first certificate.
        certificates: each issued by the next; the last one is the root.
    """

    key: ec.EllipticCurvePrivateKey = field(repr=False)
    certificates: tuple[x509.Certificate, ...]

    @property
    def pem(self) -> bytes:
        """The certificates, PEM."""
        return issue.pem(*self.certificates).encode()


def new_key() -> ec.EllipticCurvePrivateKey:
    """Make an ECDSA P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def private_pem(key: Key) -> bytes:
    """Return a private key's file, without a password: SEC 1 (TesseraCT reads no other) or PKCS #8."""
    elliptic = isinstance(key, ec.EllipticCurvePrivateKey)
    form = serialization.PrivateFormat.TraditionalOpenSSL if elliptic else serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def public_pem(key: Key) -> bytes:
    """Return a key's public half as a file."""
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def public_der(key: Key) -> bytes:
    """Return a key's SubjectPublicKeyInfo."""
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def authority(now: dt.datetime) -> Chain:
    """Return what Fulcio issues with: an intermediate for code signing, below a root that nobody keeps the key of."""
    root_key, root = _root("root", now)
    key = new_key()
    purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])
    certificate = (
        builder(_name("intermediate"), root.subject, key.public_key(), now, now + _LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage(authority=True), critical=True)
        .add_extension(purpose, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False)
        .sign(root_key, hashes.SHA256())
    )
    return Chain(key, (certificate, root))


def timestamps(now: dt.datetime) -> Chain:
    """Return what timestamps are signed with (RFC 3161, 2.3: that use alone, and critical), below a root of its own."""
    root_key, root = _root("timestamp root", now)
    key = new_key()
    purpose = ExtendedKeyUsageOID.TIME_STAMPING
    certificate = (
        leaf(_name("timestamps"), root, key.public_key(), (now, now + _LIFETIME), purpose, alone=True)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(root_key, hashes.SHA256())
    )
    return Chain(key, (certificate, root))


def _root(common: str, now: dt.datetime) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP384R1())
    return key, issue.root(_name(common), key, now, now + _LIFETIME, path_length=1)


def _name(common: str) -> x509.Name:
    names = {NameOID.ORGANIZATION_NAME: _ORGANISATION, NameOID.COMMON_NAME: common}
    return x509.Name([x509.NameAttribute(kind, value) for kind, value in names.items()])
