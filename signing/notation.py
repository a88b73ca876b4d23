"""Notary Project signatures: a JWS envelope, hung on the image as an OCI referrer.

Specified in notaryproject/specifications: ``signature-specification.md`` (payload, attributes, storage) and
``signature-envelope-jws.md`` (RFC 7515, flattened). The payload is the image's descriptor; it names no repository.
All functions are pure: bytes in, bytes out.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from countersign.oci import descriptor
from countersign.oci.descriptor import EMPTY_JSON, OCI_MANIFEST, Descriptor
from countersign.oci.errors import Malformed

MEDIA_TYPE = "application/vnd.cncf.notary.signature"
JWS_TYPE = "application/jose+json"
PAYLOAD_TYPE = "application/vnd.cncf.notary.payload.v1+json"
ENVELOPE_LIMIT = 64 << 10  # bytes; the gate reads no larger one
SCHEME = "notary.x509"
_SCHEME, _TIME = "io.cncf.notary.signingScheme", "io.cncf.notary.signingTime"
_EXPIRY, _STAMP = "io.cncf.notary.expiry", "io.cncf.notary.timestampSignature"
_AGENT = "io.cncf.notary.signingAgent"
_THUMBPRINTS = "io.cncf.notary.x509chain.thumbprint#S256"
_CREATED = "org.opencontainers.image.created"
_SECONDS = "%Y-%m-%dT%H:%M:%SZ"

ALGORITHMS: Mapping[str, str] = {
    "RSA-2048": "PS256",
    "RSA-3072": "PS384",
    "RSA-4096": "PS512",
    "EC-256": "ES256",
    "EC-384": "ES384",
    "EC-521": "ES512",
}
"""Key specification → algorithm of the JWS ("Signature Algorithm Selection")."""


@dataclass(frozen=True)
class Envelope:
    """What an envelope says, whoever signed it.

    Attributes:
        protected: the signed attributes.
        signed: what the signature is over (RFC 7515, 5.1).
        signature: as in the JWS.
        chain: certificates in DER, the signer's own first.
        timestamp: a timestamp token (RFC 3161), or empty.
    """

    payload: bytes
    protected: Mapping[str, Any]
    signed: bytes
    signature: bytes
    chain: tuple[bytes, ...]
    timestamp: bytes = b""

    @property
    def signing_time(self) -> datetime:
        """When the signer says to have signed."""
        return _moment(self.protected.get(_TIME))

    @property
    def expiry(self) -> datetime | None:
        """Until when the signature is good by its own word."""
        return _moment(self.protected[_EXPIRY]) if _EXPIRY in self.protected else None

    def like(self, other: Envelope) -> bool:
        """Say whether both sign the same, by the same certificates, in the same way, whenever they did."""
        return self._lasting() == other._lasting()

    def _lasting(self) -> tuple[object, ...]:
        attributes = {name: value for name, value in self.protected.items() if name not in {_TIME, _EXPIRY}}
        return self.payload, attributes, self.chain, bool(self.expiry), bool(self.timestamp)


def payload(target: Descriptor) -> bytes:
    """Return what is signed of an index or manifest."""
    artifact = {"mediaType": target.media_type, "digest": target.digest, "size": target.size}
    return descriptor.encode({"targetArtifact": artifact})


def protected(spec: str, at: datetime, expiry: datetime | None = None) -> bytes:
    """Return the signed attributes of a signature by a key of that specification."""
    attributes: dict[str, Any] = {
        "alg": ALGORITHMS[spec],
        "cty": PAYLOAD_TYPE,
        "crit": [_SCHEME, *([_EXPIRY] if expiry else [])],
        _SCHEME: SCHEME,
        _TIME: at.astimezone(timezone.utc).strftime(_SECONDS),
    }
    if expiry:
        attributes[_EXPIRY] = expiry.astimezone(timezone.utc).strftime(_SECONDS)
    return descriptor.encode(attributes)


def to_sign(attributes: bytes, content: bytes) -> bytes:
    """Return what the signature is over: the JWS signing input."""
    return f"{_encode(attributes)}.{_encode(content)}".encode()


def wrap(
    attributes: bytes, content: bytes, signature: bytes, chain: Sequence[bytes], *, agent: str, timestamp: bytes = b""
) -> bytes:
    """Return the envelope of a signature that has been made already.

    Args:
        attributes, content: as ``protected`` and ``payload`` give them.
        signature: over ``to_sign`` of both; of ECDSA r and s alone (RFC 7518, 3.4).
        chain: certificates in DER, the signer's own first, the root last.
        timestamp: a timestamp token over the signature.
    """
    header: dict[str, Any] = {"x5c": [base64.b64encode(each).decode() for each in chain], _AGENT: agent}
    if timestamp:
        header[_STAMP] = base64.b64encode(timestamp).decode()
    members = {"payload": _encode(content), "protected": _encode(attributes), "header": header}
    return descriptor.encode({**members, "signature": _encode(signature)})


def stamped(content: bytes, timestamp: bytes) -> bytes:
    """Return an envelope with a timestamp token over its signature."""
    document = descriptor.read_object(content, "the envelope")
    document["header"][_STAMP] = base64.b64encode(timestamp).decode()
    return descriptor.encode(document)


def manifest(content: bytes, subject: Descriptor, chain: Sequence[bytes]) -> bytes:
    """Return the manifest that hangs an envelope on an image; the envelope and ``{}`` must be stored as blobs too."""
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor.of(EMPTY_JSON, MEDIA_TYPE).as_json(),
        "layers": [descriptor.of(content, JWS_TYPE).as_json()],
        "subject": {"mediaType": subject.media_type, "size": subject.size, "digest": subject.digest},
        "annotations": {
            _THUMBPRINTS: json.dumps([hashlib.sha256(each).hexdigest() for each in chain], separators=(",", ":")),
            _CREATED: datetime.now(timezone.utc).strftime(_SECONDS),
        },
    }
    return descriptor.encode(document)


def layer(content: bytes, where: str) -> Descriptor:
    """Return the envelope's own descriptor from the manifest that hangs it on an image.

    Raises:
        Malformed: if the manifest cannot be read, or is not one JWS envelope's (COSE is read by the gate alone).
    """
    layers = descriptor.read_descriptors(descriptor.read_object(content, where), "layers", where)
    if len(layers) != 1 or layers[0].media_type != JWS_TYPE:
        raise Malformed(f"{len(layers)} layers", where=where, expected=f"one of type {JWS_TYPE}")
    return layers[0]


def parse(content: bytes) -> Envelope:
    """Read an envelope. Nothing is verified.

    Raises:
        Malformed: if it is not a JWS envelope.
    """
    if len(content) > ENVELOPE_LIMIT:
        raise Malformed(f"an envelope of {len(content)} bytes", expected=f"at most {ENVELOPE_LIMIT}")
    try:
        document = json.loads(content)
        header = document["header"]
        chain = tuple(base64.b64decode(each, validate=True) for each in header["x5c"])
        stamp = base64.b64decode(header.get(_STAMP, ""), validate=True)
        attributes = json.loads(_decode(document["protected"]))
        found = Envelope(
            _decode(document["payload"]),
            attributes if isinstance(attributes, dict) else {},
            f"{document['protected']}.{document['payload']}".encode(),
            _decode(document["signature"]),
            chain,
            stamp,
        )
        _ = found.signing_time, found.expiry
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, binascii.Error) as err:
        raise Malformed("no JWS envelope of the Notary Project") from err
    return found


def target(envelope: Envelope) -> Descriptor:
    """Return what an envelope signs.

    Raises:
        Malformed: if its payload is none of the Notary Project.
    """
    document = descriptor.read_object(envelope.payload, "the payload")
    return descriptor.from_json(document.get("targetArtifact"), "the payload")


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.b64decode(text.encode() + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)


def _moment(text: object) -> datetime:
    return datetime.fromisoformat(str(text).replace("Z", "+00:00"))  # Python 3.10 knows no Z
