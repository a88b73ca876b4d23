"""A certificate authority of one certificate, for a server that we run."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from countersign.keys import issue

LIFETIME = dt.timedelta(days=3650)


@dataclass(frozen=True)
class ServerIdentity:
    """PEM files of a TLS server: the CA's certificate, and the server's own certificate and key."""

    ca: bytes
    certificate: bytes
    key: bytes = field(repr=False)


def make(names: Sequence[str], authority: str = "countersign demo registry CA") -> ServerIdentity:
    """Return a new CA and a certificate from it for DNS names and IP addresses; the CA's key is thrown away.

    Args:
        names: the first is also the certificate's common name.
    """
    start = dt.datetime.now(dt.timezone.utc) - dt.timedelta(hours=1)
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    valid = (start, start + LIFETIME)
    ca = issue.root(_name(authority), ca_key, *valid)
    certificate = (
        issue.leaf(_name(names[0]), ca, key.public_key(), valid, ExtendedKeyUsageOID.SERVER_AUTH)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([_alternative(name) for name in names]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    return ServerIdentity(
        ca=issue.pem(ca).encode(),
        certificate=issue.pem(certificate).encode(),
        key=key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )


def covers(identity: ServerIdentity, names: Sequence[str]) -> bool:
    """Return whether the certificate names all of these DNS names and IP addresses."""
    certificate = x509.load_pem_x509_certificate(identity.certificate)
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return set(map(_alternative, names)) <= set(found)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
