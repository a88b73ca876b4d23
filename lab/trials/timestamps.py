"""A timestamp authority of the lab's own (RFC 3161), in memory, which says any time that it is told to.

Its answers are put together by hand: a real service says the time that it is, and here certificates have to have
been valid earlier.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from countersign.keys import issue

_SEQUENCE, _SET, _INTEGER, _OID, _BYTES, _TIME, _EXPLICIT = 0x30, 0x31, 0x02, 0x06, 0x04, 0x18, 0xA0
_LONG = 0x80
_SIGNED_DATA, _TST_INFO = "1.2.840.113549.1.7.2", "1.2.840.113549.1.9.16.1.4"
_CONTENT_TYPE, _MESSAGE_DIGEST = "1.2.840.113549.1.9.3", "1.2.840.113549.1.9.4"
_SIGNING_CERTIFICATE = "1.2.840.113549.1.9.16.2.47"
_SHA256, _ECDSA = "2.16.840.1.101.3.4.2.1", "1.2.840.10045.4.3.2"
_POLICY = "1.3.6.1.4.1.57264.2"
_YEAR = dt.timedelta(days=365)


@dataclass(frozen=True)
class Stamper:
    """A root, and the certificate below it by which timestamps are signed."""

    root: x509.Certificate
    certificate: x509.Certificate
    _key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def pem(self) -> str:
        """What a policy has of it: the signer's certificate before the root."""
        return issue.pem(self.certificate, self.root)

    def stamp(self, signature: bytes, ago: dt.timedelta = dt.timedelta(0)) -> bytes:
        """Return its answer (``TimeStampResp``, RFC 3161, section 2.4.2) for a signature, dated ``ago`` before now."""
        at = (dt.datetime.now(dt.timezone.utc) - ago).strftime("%Y%m%d%H%M%SZ").encode()
        imprint = _der(_SEQUENCE, _algorithm(_SHA256) + _der(_BYTES, hashlib.sha256(signature).digest()))
        serial = _number(x509.random_serial_number())
        info = _der(_SEQUENCE, _number(1) + _oid(_POLICY) + imprint + serial + _der(_TIME, at))
        content = _der(_SEQUENCE, _oid(_TST_INFO) + _der(_EXPLICIT, _der(_BYTES, info)))
        certificates = issue.der(self.certificate) + issue.der(self.root)
        signed = _number(3) + _der(_SET, _algorithm(_SHA256)) + content + _der(_EXPLICIT, certificates)
        signed += _der(_SET, self._signer(info))
        token = _der(_SEQUENCE, _oid(_SIGNED_DATA) + _der(_EXPLICIT, _der(_SEQUENCE, signed)))
        return _der(_SEQUENCE, _der(_SEQUENCE, _number(0)) + token)

    def _signer(self, info: bytes) -> bytes:
        """Return the ``SignerInfo`` of a token (RFC 5652, section 5.3)."""
        der = issue.der(self.certificate)
        own = _der(_SEQUENCE, _der(_SEQUENCE, _der(_SEQUENCE, _der(_BYTES, hashlib.sha256(der).digest()))))
        attributes = b"".join(
            sorted(
                [
                    _attribute(_CONTENT_TYPE, _oid(_TST_INFO)),
                    _attribute(_MESSAGE_DIGEST, _der(_BYTES, hashlib.sha256(info).digest())),
                    _attribute(_SIGNING_CERTIFICATE, own),
                ]
            )
        )
        signature = self._key.sign(_der(_SET, attributes), ec.ECDSA(hashes.SHA256()))
        who = _der(_SEQUENCE, self.certificate.issuer.public_bytes() + _number(self.certificate.serial_number))
        digest, by = _algorithm(_SHA256), _algorithm(_ECDSA)
        return _der(_SEQUENCE, _number(1) + who + digest + _der(_EXPLICIT, attributes) + by + _der(_BYTES, signature))


def make(valid: tuple[dt.timedelta, dt.timedelta] = (-_YEAR, 5 * _YEAR)) -> Stamper:
    """Return a new authority; ``valid`` is the time of who signs, counted from now."""
    now = dt.datetime.now(dt.timezone.utc)
    root_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"lab timestamps {each}")]) for each in ("root", "")]
    root = issue.root(names[0], root_key, now - 2 * _YEAR, now + 10 * _YEAR)
    period = (now + valid[0], now + valid[1])
    signer = (
        issue.leaf(names[1], root, key.public_key(), period, ExtendedKeyUsageOID.TIME_STAMPING, alone=True)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(root_key, hashes.SHA256())
    )
    return Stamper(root, signer, key)


def _attribute(kind: str, value: bytes) -> bytes:
    return _der(_SEQUENCE, _oid(kind) + _der(_SET, value))


def _algorithm(kind: str) -> bytes:
    return _der(_SEQUENCE, _oid(kind))


def _oid(text: str) -> bytes:
    first, second, *rest = map(int, text.split("."))
    content = bytearray([first * 40 + second])
    for arc in rest:
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.append(0x80 | arc & 0x7F)
        content += bytes(reversed(groups))
    return _der(_OID, bytes(content))


def _number(value: int) -> bytes:
    return _der(_INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _der(tag: int, content: bytes) -> bytes:
    """Return a DER value (X.690, 8.1)."""
    size = len(content)
    if size < _LONG:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, _LONG | len(length)]) + length + content
