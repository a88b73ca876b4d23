"""The files that roots of trust by certificate name, checked as far as a message can be better than the gate's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from countersign.policy.problems import shown

TRUSTED_ROOT = "application/vnd.dev.sigstore.trustedroot+json;version=0.1"
_MAX_BYTES = 1 << 20


class BadFile(Exception):
    """A file that is not what the policy says that it is; the text says which, what was found and expected."""


def trusted_root(path: Path) -> Mapping[str, Any]:
    """Read a Sigstore trusted root (protobuf-specs, ``sigstore_trustroot.proto``).

    Raises:
        BadFile: it cannot be read, or is something else.
    """
    try:
        value = json.loads(_text(path))
    except ValueError as err:
        raise BadFile(f"{shown(path)}: no JSON; expected a trusted_root.json") from err
    if not isinstance(value, dict) or value.get("mediaType") != TRUSTED_ROOT:
        found = value.get("mediaType") if isinstance(value, dict) else type(value).__name__
        raise BadFile(f"{shown(path)}: got {found!r}; expected a trusted_root.json, of type {TRUSTED_ROOT}")
    if not value.get("certificateAuthorities"):
        raise BadFile(f"{shown(path)}: it lists no certificate authority; expected at least one")
    return value


def listed(root: Mapping[str, Any]) -> Mapping[str, int]:
    """Return how many sources of ``sct``, ``log`` and ``time`` a trusted root lists."""
    logs = len(root.get("tlogs") or ())
    times = logs + len(root.get("timestampAuthorities") or ())
    return {"sct": len(root.get("ctlogs") or ()), "log": logs, "time": times}


def authorities(path: Path, *, timestamps: bool = False) -> str:
    """Return the certificates of authorities in a file, as PEM.

    Args:
        timestamps: the first may be that of who signs timestamps.

    Raises:
        BadFile: it cannot be read, or holds something else.
    """
    from cryptography import x509

    text = _certificates(path)
    found = x509.load_pem_x509_certificates(text.encode())
    for number, each in enumerate(found):
        if not _is_authority(each) and not (timestamps and number == 0 and len(found) > 1):
            name = each.subject.rfc4514_string() or "it"
            raise BadFile(f"{shown(path)}: {name} is not the certificate of an authority; expected CA:TRUE")
    return text


def anchors(path: Path) -> str:
    """Return what a Notary Project trust store may hold, as PEM: authorities, and signers that signed their own.

    Raises:
        BadFile: it cannot be read, or holds something else.
    """
    from cryptography import x509

    text = _certificates(path)
    for each in x509.load_pem_x509_certificates(text.encode()):
        if not _is_authority(each) and not _is_its_own(each):
            name = each.subject.rfc4514_string() or "it"
            raise BadFile(f"{shown(path)}: {name} is neither an authority's certificate (CA:TRUE) nor self-signed")
    return text


def fingerprint(path: Path) -> str:
    """Return ``sha256:…`` of a certificate's DER.

    Raises:
        BadFile: it cannot be read, or holds something else.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256

    try:
        return f"sha256:{x509.load_pem_x509_certificate(_text(path).encode()).fingerprint(SHA256()).hex()}"
    except ValueError as err:
        raise BadFile(f"{shown(path)}: no certificate; expected a PEM block CERTIFICATE") from err


def crl(path: Path) -> str:
    """Return an authority's list of revoked certificates (RFC 5280, section 5), as PEM.

    Raises:
        BadFile: it cannot be read, or holds something else.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    try:
        return x509.load_pem_x509_crl(_text(path).encode()).public_bytes(Encoding.PEM).decode()
    except ValueError as err:
        raise BadFile(f"{shown(path)}: no list of revoked certificates; expected a PEM block X509 CRL") from err


def whole_crl(path: Path) -> str:
    """Return a list of revoked certificates that is whole, and says when the next one comes, as PEM.

    Raises:
        BadFile: it cannot be read, or holds something else.
    """
    from cryptography import x509

    text = crl(path)
    found = x509.load_pem_x509_crl(text.encode())
    if found.next_update_utc is None or any(each.critical for each in found.extensions):
        raise BadFile(f"{shown(path)}: it is a part of a list, or never ends; expected a whole one with nextUpdate")
    return text


def _certificates(path: Path) -> str:
    """Return the certificates in a file as PEM, and nothing else that it holds."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    text = _text(path)
    if "PRIVATE KEY" in text:
        raise BadFile(f"{shown(path)}: it holds a private key; expected certificates of authorities")
    try:
        found = x509.load_pem_x509_certificates(text.encode())
    except ValueError as err:
        raise BadFile(f"{shown(path)}: no certificate; expected PEM blocks CERTIFICATE") from err
    return "".join(each.public_bytes(Encoding.PEM).decode() for each in found)


def _is_its_own(certificate: Any) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        certificate.verify_directly_issued_by(certificate)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _is_authority(certificate: Any) -> bool:
    from cryptography import x509

    try:
        return bool(certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    except (x509.ExtensionNotFound, ValueError):
        return False


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as err:
        raise BadFile(f"{shown(path)}: {err.strerror}; expected a file that can be read") from err
    if len(content) > _MAX_BYTES:
        raise BadFile(f"{shown(path)}: more than {_MAX_BYTES} bytes; expected less")
    try:
        return content.decode()
    except ValueError as err:
        raise BadFile(f"{shown(path)}: no text; expected PEM or JSON") from err
