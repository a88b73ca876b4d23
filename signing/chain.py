"""Certificate chains that sign for the Notary Project ("Certificate Requirements" of its signature specification)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from countersign.console.errors import UsageError
from countersign.keys import issue
from countersign.keys.sealed import BadKey, read

Private = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
Public = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
_MAX = 8  # certificates; the gate reads no longer chain
_HASHES = {"256": hashes.SHA256(), "384": hashes.SHA384(), "521": hashes.SHA512()}
_RSA_HASHES = {"2048": hashes.SHA256(), "3072": hashes.SHA384(), "4096": hashes.SHA512()}
_SPECS = "RSA of 2048, 3072 or 4096 bits, or ECDSA on P-256, P-384 or P-521"
_OTHER_JOBS = {
    ExtendedKeyUsageOID.SERVER_AUTH: "servers",
    ExtendedKeyUsageOID.CLIENT_AUTH: "clients",
    ExtendedKeyUsageOID.EMAIL_PROTECTION: "e-mail",
    ExtendedKeyUsageOID.TIME_STAMPING: "timestamps",
    ExtendedKeyUsageOID.OCSP_SIGNING: "OCSP",
}


class BadChain(UsageError):
    """Certificates that make no chain from a signer of code to a root."""


def load(path: Path) -> tuple[x509.Certificate, ...]:
    """Read the certificates of a file (PEM), in its order.

    Raises:
        BadChain: if there are none, or too many.
        BadKey: if the file cannot be read.
    """
    try:
        found = tuple(x509.load_pem_x509_certificates(read(path)))
    except ValueError as err:
        raise BadChain("no certificate", where=str(path), expected="PEM blocks CERTIFICATE") from err
    return found


def parse(der: Sequence[bytes], where: str) -> tuple[x509.Certificate, ...]:
    """Read certificates in DER.

    Raises:
        BadChain: if one is none.
    """
    try:
        return tuple(x509.load_der_x509_certificate(each) for each in der)
    except ValueError as err:
        raise BadChain("a certificate that cannot be read", where=where, expected="DER") from err


def check(chain: Sequence[x509.Certificate], where: str) -> str:
    """Check a chain, the signer's own certificate first; return the specification of its key ("RSA-3072", "EC-256").

    Raises:
        BadChain: saying what is wrong with it.
        BadKey: a key that the Notary Project knows no algorithm for.
    """
    if not 1 <= len(chain) <= _MAX:
        raise BadChain(f"{len(chain)} certificates", where=where, expected=f"1 to {_MAX}, the signer's own first")
    now = datetime.now(timezone.utc)
    for each in chain:
        if not each.not_valid_before_utc <= now <= each.not_valid_after_utc:
            times = (
                f"valid from {each.not_valid_before_utc:%Y-%m-%d %H:%M} to {each.not_valid_after_utc:%Y-%m-%d %H:%M}"
            )
            raise BadChain(f"{_name(each)} is {times} UTC", where=where, expected="all to be valid now")
    _check_leaf(chain[0], where)
    for each, issuer in itertools.pairwise(chain):
        if _issued(each, each):
            raise BadChain(f"{_name(each)} signed its own", where=where, expected="no certificate after it")
        if not _issued(each, issuer):
            raise BadChain(
                f"{_name(each)} is not issued by {_name(issuer)}", where=where, expected="each one's issuer after it"
            )
        if not _is_authority(issuer):
            raise BadChain(
                f"{_name(issuer)} is not the certificate of an authority", where=where, expected="CA:TRUE, keyCertSign"
            )
    if not _issued(chain[-1], chain[-1]):
        issuer_name = chain[-1].issuer.rfc4514_string()
        raise BadChain(
            f"the chain ends with {_name(chain[-1])}, issued by {issuer_name}",
            where=where,
            expected="the root at its end",
            do="append the certificates up to the root",
        )
    return spec(chain[0].public_key(), where)


def spec(key: object, where: str) -> str:
    """Return the specification of a key, as Notation's plugin contract names it.

    Raises:
        BadKey: there is none.
    """
    if isinstance(key, rsa.RSAPublicKey) and str(key.key_size) in _RSA_HASHES:
        return f"RSA-{key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in {"secp256r1", "secp384r1", "secp521r1"}:
        return f"EC-{key.curve.key_size}"
    bits = getattr(key, "key_size", "")
    raise BadKey(f"a key of kind {type(key).__name__.strip('_')} {bits}".rstrip(), where=where, expected=_SPECS)


def matches(leaf: x509.Certificate, key: Private) -> bool:
    """Say whether a certificate is for that key."""
    return _der(leaf.public_key()) == _der(key.public_key())


def sign(key: Private, data: bytes) -> bytes:
    """Sign as a JWS does: RSASSA-PSS with a salt as long as the hash, or ECDSA as r and s."""
    digest = _hash(key.public_key())
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, _pss(digest), digest)
    size = (key.curve.key_size + 7) // 8
    r, s = utils.decode_dss_signature(key.sign(data, ec.ECDSA(digest)))
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def holds(leaf: x509.Certificate, signature: bytes, data: bytes) -> bool:
    """Say whether a JWS's signature is the certificate's."""
    key = leaf.public_key()
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, data, _pss(_hash(key)), _hash(key))
        elif isinstance(key, ec.EllipticCurvePublicKey):
            half = (key.curve.key_size + 7) // 8
            if len(signature) != 2 * half:
                return False
            r, s = int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big")
            key.verify(utils.encode_dss_signature(r, s), data, ec.ECDSA(_hash(key)))
        else:
            return False
    except InvalidSignature:
        return False
    return True


def as_der(chain: Sequence[x509.Certificate]) -> tuple[bytes, ...]:
    """Return certificates in DER."""
    return tuple(map(issue.der, chain))


def _check_leaf(leaf: x509.Certificate, where: str) -> None:
    usage, purposes = _extension(leaf, x509.KeyUsage), _extension(leaf, x509.ExtendedKeyUsage)
    others = ", ".join(_OTHER_JOBS[each] for each in (purposes.value if purposes else ()) if each in _OTHER_JOBS)
    reasons = {
        "is the certificate of an authority": _is_ca(leaf),
        "does not say in a critical extension that it signs (key usage digitalSignature)": not (
            usage and usage.critical and usage.value.digital_signature
        ),
        f"is for {others}": bool(others),
    }
    for why, so in reasons.items():
        if so:
            expected = "the signer's own certificate first, and for signing code"
            raise BadChain(f"{_name(leaf)} {why}", where=where, expected=expected)


def _extension(certificate: x509.Certificate, kind: type[Any]) -> Any:
    """Return an extension; None where it is not there, or cannot be read."""
    try:
        return certificate.extensions.get_extension_for_class(kind)
    except (x509.ExtensionNotFound, ValueError):
        return None


def _is_ca(certificate: x509.Certificate) -> bool:
    found = _extension(certificate, x509.BasicConstraints)
    return bool(found and found.value.ca)


def _is_authority(certificate: x509.Certificate) -> bool:
    usage = _extension(certificate, x509.KeyUsage)
    return _is_ca(certificate) and bool(usage and usage.critical and usage.value.key_cert_sign)


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _hash(key: object) -> hashes.HashAlgorithm:
    if isinstance(key, rsa.RSAPublicKey):
        return _RSA_HASHES.get(str(key.key_size), hashes.SHA256())
    if isinstance(key, ec.EllipticCurvePublicKey):
        return _HASHES.get(str(key.curve.key_size), hashes.SHA256())
    raise TypeError(type(key).__name__)


def _pss(digest: hashes.HashAlgorithm) -> padding.PSS:
    return padding.PSS(padding.MGF1(digest), digest.digest_size)


def _der(key: object) -> bytes:
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        return b""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _name(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string() or f"the certificate {certificate.serial_number:x}"
