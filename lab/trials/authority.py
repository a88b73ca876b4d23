"""A Sigstore of the lab's own: certificates with SCTs, and a log of signatures like Rekor v1. All of it in memory.

Nothing here serves anything: a verifier needs the trusted root and what hangs on the image. Private keys are made
anew for each build and never written.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from countersign.keys import issue
from countersign.keys.pair import PrivateKey, generate

CODE_SIGNING, SERVER_AUTH = ExtendedKeyUsageOID.CODE_SIGNING, ExtendedKeyUsageOID.SERVER_AUTH
_ISSUER = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.8")  # Fulcio's: who vouched for the identity
_BARE_ISSUER = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")  # the same without DER; Fulcio writes both
_SCTS = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")  # RFC 6962, 3.3
_SHORT = 127
_LOG = "rekor.lab.countersign"
_TREE = 1
"""The log's tree: Rekor v1 writes its number into the first line of checkpoints, and Rekor v2 has none."""
_LIFETIME = dt.timedelta(days=3650)
LASTING = (-dt.timedelta(hours=1), _LIFETIME / 2)
"""How long certificates are valid, counted from now."""
_EARLIER = dt.timedelta(days=500)
"""How long before now an authority begins: certificates that have expired must lie within its time."""


@dataclass(frozen=True)
class Signer:
    """A key and the certificate that says whose it is."""

    key: PrivateKey
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        """The certificate, DER."""
        return issue.der(self.certificate)

    @property
    def pem(self) -> str:
        """The certificate, PEM."""
        return issue.pem(self.certificate)


@dataclass(frozen=True)
class Authority:
    """A certificate authority, its log of certificates, and its log of signatures.

    Attributes:
        certificate: of the authority; it issues without an intermediate.
        start: when it and its logs begin.
    """

    certificate: x509.Certificate
    start: dt.datetime
    _key: ec.EllipticCurvePrivateKey = field(repr=False)
    _certificate_log: PrivateKey = field(repr=False)
    _log: PrivateKey = field(repr=False)

    @property
    def pem(self) -> str:
        """The authority's certificate, PEM."""
        return issue.pem(self.certificate)

    def issue(
        self,
        name: x509.GeneralName,
        issuer: str = "",
        *,
        valid: tuple[dt.timedelta, dt.timedelta] = LASTING,
        usage: x509.ObjectIdentifier = CODE_SIGNING,
        sct: bool = True,
    ) -> Signer:
        """Return a new key and a certificate for it, as Fulcio issues them (its ``certificate-specification.md``).

        Args:
            name: whose it is; the certificate's only one.
            issuer: who vouched for that; empty leaves the extension out.
            valid: from and to, counted from now.
            sct: whether the log of certificates has signed it.
        """
        key = generate()
        public = serialization.load_pem_public_key(key.public.pem.encode())
        if not isinstance(public, ec.EllipticCurvePublicKey):
            raise TypeError(type(public).__name__)
        return Signer(key, self.certify(public, name, issuer, valid=valid, usage=usage, sct=sct))

    def certify(
        self,
        public: ec.EllipticCurvePublicKey,
        name: x509.GeneralName,
        issuer: str = "",
        *,
        valid: tuple[dt.timedelta, dt.timedelta] = LASTING,
        usage: x509.ObjectIdentifier = CODE_SIGNING,
        sct: bool = True,
    ) -> x509.Certificate:
        """Return a certificate for a key that is there already; see ``issue``."""
        made = issue.leaf(
            x509.Name([]), self.certificate, public, (_now() + valid[0], _now() + valid[1]), usage
        ).add_extension(x509.SubjectAlternativeName([name]), critical=True)
        if issuer:
            made = made.add_extension(x509.UnrecognizedExtension(_BARE_ISSUER, issuer.encode()), False)
            made = made.add_extension(x509.UnrecognizedExtension(_ISSUER, _der(0x0C, issuer.encode())), False)
        if sct:
            signed = self._sct(made.sign(self._key, hashes.SHA256()).tbs_certificate_bytes)
            made = made.add_extension(x509.UnrecognizedExtension(_SCTS, _der(0x04, signed)), critical=False)
        return made.sign(self._key, hashes.SHA256())

    def crl(self, *revoked: Signer, valid: tuple[dt.timedelta, dt.timedelta] = LASTING) -> str:
        """Return its list of revoked certificates (RFC 5280, section 5), PEM; ``valid`` is counted from now."""
        first, following = (_now() + each for each in valid)
        builder = x509.CertificateRevocationListBuilder(self.certificate.subject, first, following)
        for each in revoked:
            serial = each.certificate.serial_number
            one = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(first).build()
            builder = builder.add_revoked_certificate(one)
        number = x509.CRLNumber(1)
        found = builder.add_extension(number, critical=False).sign(self._key, hashes.SHA256())
        return found.public_bytes(serialization.Encoding.PEM).decode()

    def _sct(self, certificate: bytes) -> bytes:
        """Return the list of one SCT over a certificate that has all but that (RFC 6962, 3.2 and 3.3)."""
        issuer = hashlib.sha256(_spki(self._key)).digest()
        at = struct.pack(">Q", int(_now().timestamp() * 1000))
        entry = b"\x00\x01" + issuer + len(certificate).to_bytes(3, "big") + certificate
        signature = self._certificate_log.sign(b"\x00\x00" + at + entry + b"\x00\x00")
        found = b"\x00" + _log_id(self._certificate_log) + at + b"\x00\x00" + b"\x04\x03" + _sized(signature)
        return _sized(_sized(found))

    def log(self, kind: str, spec: Mapping[str, Any], ago: dt.timedelta = dt.timedelta(0)) -> dict[str, Any]:
        """Return the entry of a signature, as Rekor v1 gives it: the time that it signs, and a proof of inclusion.

        Args:
            kind: ``dsse`` or ``hashedrekord``.
            spec: what the entry says, of that kind in version 0.0.1.
            ago: when it was logged, counted back from now.

        Returns:
            a ``TransparencyLogEntry`` of protobuf-specs, as JSON.
        """
        body, at = _json({"apiVersion": "0.0.1", "kind": kind, "spec": spec}), int((_now() - ago).timestamp())
        identity = _log_id(self._log)
        promise = {"body": _b64(body), "integratedTime": at, "logID": identity.hex(), "logIndex": 0}
        root = hashlib.sha256(b"\x00" + body).digest()  # of a tree with one leaf (RFC 6962, 2.1)
        note = f"{_LOG} - {_TREE}\n1\n{_b64(root)}\n"
        checkpoint = f"{note}\n— {_LOG} {_b64(identity[:4] + self._log.sign(note.encode()))}\n"
        return {
            "logIndex": "0",
            "logId": {"keyId": _b64(identity)},
            "kindVersion": {"kind": kind, "version": "0.0.1"},
            "integratedTime": str(at),
            "inclusionPromise": {"signedEntryTimestamp": _b64(self._log.sign(_json(promise)))},
            "inclusionProof": {
                "logIndex": "0",
                "rootHash": _b64(root),
                "treeSize": "1",
                "hashes": [],
                "checkpoint": {"envelope": checkpoint},
            },
            "canonicalizedBody": _b64(body),
        }

    def trusted_root(self) -> dict[str, Any]:
        """Return its ``trusted_root.json``."""
        valid = {"start": self.start.strftime("%Y-%m-%dT%H:%M:%SZ")}
        der = issue.der(self.certificate)
        authority = {
            "subject": {"organization": "lab.countersign", "commonName": "countersign lab"},
            "uri": "https://fulcio.lab.countersign",
            "certChain": {"certificates": [{"rawBytes": _b64(der)}]},
            "validFor": valid,
        }
        return {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [_listed(self._log, f"https://{_LOG}", valid)],
            "certificateAuthorities": [authority],
            "ctlogs": [_listed(self._certificate_log, "https://ct.lab.countersign", valid)],
            "timestampAuthorities": [],
        }


def make() -> Authority:
    """Return a new authority."""
    key, start = ec.generate_private_key(ec.SECP256R1()), _now() - _EARLIER
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "countersign lab")])
    return Authority(issue.root(name, key, start, start + _LIFETIME), start, key, generate(), generate())


def _listed(key: PrivateKey, url: str, valid: Mapping[str, str]) -> dict[str, Any]:
    return {
        "baseUrl": url,
        "hashAlgorithm": "SHA2_256",
        "publicKey": {"rawBytes": _b64(key.public.der), "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": valid},
        "logId": {"keyId": _b64(_log_id(key))},
    }


def _log_id(key: PrivateKey) -> bytes:
    return hashlib.sha256(key.public.der).digest()


def _spki(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _der(tag: int, content: bytes) -> bytes:
    """Return a DER value (X.690, 8.1.3): an SCT or an issuer, whose length takes one byte."""
    if len(content) > _SHORT:
        raise ValueError(f"{len(content)} bytes, expected at most {_SHORT}")
    return bytes([tag, len(content)]) + content


def _sized(content: bytes) -> bytes:
    return len(content).to_bytes(2, "big") + content


def _json(document: Mapping[str, Any]) -> bytes:
    """Return canonical JSON (RFC 8785), for documents of ASCII text and integers."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _now() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc)
