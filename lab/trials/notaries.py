"""Authorities whose certificates sign for the Notary Project, in memory, and signatures with them.

A signer's subject has C, ST, O and CN: what the notation CLI asks of each.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from countersign.keys import issue
from countersign.oci.descriptor import Descriptor
from signing import chain as chains
from signing import notation

_DAY = dt.timedelta(days=1)
_AUTHORITY = (-500 * _DAY, 3000 * _DAY)
LASTING = (-_DAY, 1000 * _DAY)
"""How long a certificate is valid, counted from now."""


@dataclass(frozen=True)
class NotarySigner:
    """A key, and its certificates up to the root, its own first."""

    key: chains.Private = field(repr=False)
    chain: tuple[x509.Certificate, ...]

    def envelope(self, target: Descriptor, *, at: dt.datetime | None = None, until: dt.datetime | None = None) -> bytes:
        """Sign an image, as of ``at`` and good until ``until``, with no look at whether that is right."""
        spec = chains.spec(self.chain[0].public_key(), "the lab")
        attributes = notation.protected(spec, at or dt.datetime.now(dt.timezone.utc), until)
        payload = notation.payload(target)
        signature = chains.sign(self.key, notation.to_sign(attributes, payload))
        return notation.wrap(attributes, payload, signature, chains.as_der(self.chain), agent="countersign lab")

    def write(self, folder: Path, name: str) -> Path:
        """Write NAME.key and NAME.crt; return the key's path."""
        path = folder / f"{name}.key"
        private = self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path.touch(0o600)
        path.write_bytes(private)
        path.with_suffix(".crt").write_text(issue.pem(*self.chain))
        return path


@dataclass(frozen=True)
class NotaryAuthority:
    """A root certificate and its key."""

    certificate: x509.Certificate
    _key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def pem(self) -> str:
        """The certificate, PEM."""
        return issue.pem(self.certificate)

    def issue(
        self,
        common_name: str = "release",
        key: chains.Private | None = None,
        *,
        valid: tuple[dt.timedelta, dt.timedelta] = LASTING,
        usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.CODE_SIGNING,
    ) -> NotarySigner:
        """Return a signer with that name, for a new key on P-256 or the given one."""
        signs = key or ec.generate_private_key(ec.SECP256R1())
        leaf = issue.leaf(subject(common_name), self.certificate, signs.public_key(), _counted(valid), usage).sign(
            self._key, hashes.SHA256()
        )
        return NotarySigner(signs, (leaf, self.certificate))


def make(name: str = "countersign lab notary") -> NotaryAuthority:
    """Return a new authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    return NotaryAuthority(issue.root(subject(name), key, *_counted(_AUTHORITY)), key)


def subject(common_name: str) -> x509.Name:
    """Return the subject of a signer."""
    names = {
        NameOID.COUNTRY_NAME: "FI",
        NameOID.STATE_OR_PROVINCE_NAME: "Uusimaa",
        NameOID.ORGANIZATION_NAME: "Acme",
        NameOID.COMMON_NAME: common_name,
    }
    return x509.Name([x509.NameAttribute(kind, value) for kind, value in names.items()])


def identity(common_name: str) -> str:
    """Return a signer as a policy names them."""
    return f"x509.subject: C=FI, ST=Uusimaa, O=Acme, CN={common_name}"


def _counted(valid: tuple[dt.timedelta, dt.timedelta]) -> tuple[dt.datetime, dt.datetime]:
    now = dt.datetime.now(dt.timezone.utc)
    return now + valid[0], now + valid[1]
