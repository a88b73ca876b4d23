"""Signing with a key and the certificate that an authority of one's own has given to it (the root ``pki``)."""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from countersign.console.errors import UsageError
from countersign.keys import issue
from countersign.keys.pair import PrivateKey
from signing import attachment, bundle, timestamp
from signing.attachment import Attachment
from signing.stored import Found
from signing.timestamp import Server

CERTIFICATE = "dev.sigstore.cosign/certificate"
CHAIN = "dev.sigstore.cosign/chain"
_LIMIT = 64 << 10  # bytes of a file
_MOST = 10  # certificates of a chain


@dataclass(frozen=True)
class ByCertificate:
    """Signs with a key that has a certificate.

    Bundles have the certificate alone: their format has no place for a chain (v0.3), so verifiers need the
    intermediates. Attachments have the chain too.

    Attributes:
        chain: what leads from there to a root, the next one first; may be empty.
        server: who vouches for the time of a signature, or None.
    """

    key: PrivateKey
    leaf: x509.Certificate
    chain: tuple[x509.Certificate, ...] = ()
    server: Server | None = None
    names_subjects: bool = field(default=False, init=False)
    attaches: bool = field(default=True, init=False)

    @property
    def lasting(self) -> bool:
        """See ``Signer``: a timestamp is a new one each time."""
        return self.server is None

    @property
    def about(self) -> Mapping[str, Any]:
        """See ``Signer``."""
        certificate = {"names": names(self.leaf), "notAfter": self.leaf.not_valid_after_utc.isoformat()}
        return {"key": self.key.public.fingerprint, "certificate": certificate}

    def statement(self, content: bytes) -> bytes:
        """See ``Signer``."""
        signature = self.key.sign(bundle.pae(content))
        stamped = timestamp.material(self.server.stamp(signature)) if self.server else {}
        return bundle.enclose(content, signature, self._material | stamped)

    def attachment(self, payload: bytes) -> Attachment:
        """See ``Signer``."""
        signature = self.key.sign(payload)
        stamped = timestamp.annotation(self.server.stamp(signature)) if self.server else {}
        return Attachment(payload, base64.b64encode(signature).decode(), self._annotations | stamped)

    def wrote(self, found: Found, content: bytes, wanted: bytes) -> bool:
        """See ``Signer``."""
        if found.format == "bundle":
            return bundle.signed_by(self.key.public, content, wanted, self._material)
        made = Attachment(content, found.signature, self._annotations)
        return dict(found.entry.annotations) == made.layer.annotations and attachment.signed_by(
            self.key.public, made, wanted
        )

    @property
    def _material(self) -> dict[str, object]:
        return {"certificate": {"rawBytes": base64.b64encode(issue.der(self.leaf)).decode()}}

    @property
    def _annotations(self) -> dict[str, str]:
        return beside(self.leaf, self.chain)


@dataclass(frozen=True)
class Files:
    """A certificate with its chain, and the files that they were read from."""

    leaf: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    where: str
    chain_where: str


def beside(leaf: x509.Certificate, chain: Sequence[x509.Certificate]) -> dict[str, str]:
    """Return certificate and chain as cosign's annotations of an attachment have them."""
    found = {CERTIFICATE: issue.pem(leaf)}
    return found | {CHAIN: issue.pem(*chain)} if chain else found


def load(certificate: Path, chain: Path | None = None) -> Files:
    """Read the files of a certificate and its chain.

    Args:
        certificate: PEM file with the certificate; the chain may follow in it.
        chain: PEM file with the chain, the issuer of the certificate first; None if there is none.

    Raises:
        UsageError: one of them cannot be read, or both have a chain.
    """
    leaf, *rest = read(certificate)
    where = str(certificate)
    if chain and rest:
        raise UsageError(f"got {len(rest)} more certificates and a chain", where=where, expected="one of the two")
    return Files(leaf, tuple(read(chain) if chain else rest), where, str(chain or certificate))


def signer(key: PrivateKey, files: Files, server: Server | None = None) -> ByCertificate:
    """Return who signs; all that verifiers will ask of the certificate is asked here first.

    Args:
        server: a timestamp server, or None.

    Raises:
        UsageError: the certificate cannot be used to sign with this key now.
    """
    now = dt.datetime.now(dt.timezone.utc)
    _check_leaf(files.leaf, key, files.where)
    _check_time(files.leaf, now, files.where)
    last = files.leaf
    for number, issuer in enumerate(files.chain, 1):
        at = f"{files.chain_where}, certificate {number} of the chain"
        _check_issuer(issuer, last, at)
        _check_time(issuer, now, at)
        last = issuer
    return ByCertificate(key, files.leaf, files.chain, server)


def read(path: Path) -> list[x509.Certificate]:
    """Read a PEM file of one certificate or more.

    Raises:
        UsageError: it cannot be read, or holds anything else.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LIMIT + 1)
    except OSError as err:
        raise UsageError(f"the certificate cannot be read: {err.strerror}", where=str(path)) from err
    if b"PRIVATE KEY-----" in content:
        raise UsageError("a private key where a certificate belongs", where=str(path), expected=_EXPECTED)
    try:
        found = x509.load_pem_x509_certificates(content) if len(content) <= _LIMIT else []
    except ValueError:
        found = []
    if not found or len(found) > _MOST:
        raise UsageError("no certificate that can be read", where=str(path), expected=_EXPECTED)
    return found


_EXPECTED = f"-----BEGIN CERTIFICATE-----, {_MOST} at most"


def names(certificate: x509.Certificate) -> list[str]:
    """Return whose a certificate is: its e-mail addresses, DNS names and URIs."""
    alternative = _extension(certificate, x509.SubjectAlternativeName)
    kinds = (x509.RFC822Name, x509.DNSName, x509.UniformResourceIdentifier)
    return [str(name) for kind in kinds for name in alternative.get_values_for_type(kind)] if alternative else []


def _check_leaf(leaf: x509.Certificate, key: PrivateKey, where: str) -> None:
    """Raise ``UsageError`` if no verifier takes a signature with this certificate and this key."""
    public = leaf.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if public != key.public.der:
        raise UsageError(
            "the certificate is of another key", where=where, expected=f"one of the key {key.public.fingerprint}"
        )
    if _is_authority(leaf):
        raise UsageError("the certificate is an authority's", where=where, expected="a certificate for signing code")
    usage = _extension(leaf, x509.ExtendedKeyUsage)
    if usage is None or ExtendedKeyUsageOID.CODE_SIGNING not in list(usage):
        raise UsageError(
            "the certificate is not for signing code", where=where, expected="the extended key usage codeSigning"
        )
    signs = _extension(leaf, x509.KeyUsage)
    if signs is not None and not signs.digital_signature:
        raise UsageError(
            "the certificate is not for signatures", where=where, expected="the key usage digitalSignature"
        )
    if not names(leaf):
        expected = "an e-mail address, DNS name or URI (subjectAltName), for policies to name"
        raise UsageError("the certificate has no name", where=where, expected=expected)


def _check_time(certificate: x509.Certificate, now: dt.datetime, where: str) -> None:
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not start <= now <= end:
        raise UsageError(
            f"valid from {start:%Y-%m-%dT%H:%M:%SZ} to {end:%Y-%m-%dT%H:%M:%SZ}",
            where=where,
            expected=f"a certificate that is valid now, {now:%Y-%m-%dT%H:%M:%SZ}",
            do="have a new one issued",
        )


def _check_issuer(issuer: x509.Certificate, issued: x509.Certificate, where: str) -> None:
    try:
        issued.verify_directly_issued_by(issuer)
        good = _is_authority(issuer)
    except (ValueError, TypeError, InvalidSignature):
        good = False
    if not good:
        raise UsageError(
            f"{issuer.subject.rfc4514_string()!r} has not issued the certificate before it",
            where=where,
            expected="the issuer of each certificate after it, the first one that of the key's",
        )


def _is_authority(certificate: x509.Certificate) -> bool:
    constraints = _extension(certificate, x509.BasicConstraints)
    return constraints is not None and constraints.ca


def _extension(certificate: x509.Certificate, kind: type[Any]) -> Any:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
    except ValueError as err:
        raise UsageError(f"the certificate's extensions cannot be read: {err}") from err
