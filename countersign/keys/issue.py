"""What the certificates that we issue have in common (RFC 5280)."""

from __future__ import annotations

import datetime as dt

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes


def builder(
    subject: x509.Name, issuer: x509.Name, key: CertificatePublicKeyTypes, start: dt.datetime, end: dt.datetime
) -> x509.CertificateBuilder:
    """Return a certificate to be signed: a random serial number, and the key's identifier (section 4.2.1.2)."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def root(
    name: x509.Name, key: ec.EllipticCurvePrivateKey, start: dt.datetime, end: dt.datetime, path_length: int = 0
) -> x509.Certificate:
    """Return an authority's own certificate, by its key; ``path_length``: of authorities that may stand below it."""
    return (
        builder(name, name, key.public_key(), start, end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(usage(authority=True), critical=True)
        .sign(key, hashes.SHA384() if isinstance(key.curve, ec.SECP384R1) else hashes.SHA256())
    )


def leaf(
    name: x509.Name,
    issuer: x509.Certificate,
    key: CertificatePublicKeyTypes,
    valid: tuple[dt.datetime, dt.datetime],
    purpose: x509.ObjectIdentifier,
    *,
    alone: bool = False,
) -> x509.CertificateBuilder:
    """Return a certificate for one purpose, to be signed by its issuer; ``alone``: the purpose is critical."""
    own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return (
        builder(name, issuer.subject, key, *valid)
        .add_extension(usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=alone)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own), critical=False)
    )


def pem(*certificates: x509.Certificate) -> str:
    """Return certificates as PEM, one after the other."""
    return "".join(each.public_bytes(serialization.Encoding.PEM).decode() for each in certificates)


def der(certificate: x509.Certificate) -> bytes:
    """Return a certificate as DER."""
    return certificate.public_bytes(serialization.Encoding.DER)


def usage(*, authority: bool) -> x509.KeyUsage:
    """Return what the key may sign: certificates and lists of revoked ones, or all else (section 4.2.1.3)."""
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )
