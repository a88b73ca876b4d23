"""What the certificates that we issue have in common (RFC 5280)."""

from __future__ import annotations

import datetime as dt

from cryptography import x509
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
