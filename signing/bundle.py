"""Bundles: Sigstore bundle v0.3 with a DSSE envelope, hung on the image as an OCI referrer.

The envelope holds an in-toto Statement v1 whose subject is the image's digest; it names no repository. Specified in
protobuf-specs ``sigstore_bundle.proto``, DSSE v1 (the signature is over the PAE), and cosign's BUNDLE_SPEC.md.
All functions are pure: bytes in, bytes out.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from oci import descriptor
from oci.descriptor import EMPTY_JSON, OCI_EMPTY, OCI_MANIFEST, Descriptor
from oci.errors import Malformed
from signing.keys import PrivateKey, PublicKey
from signing.verdicts import NotSigned

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PREDICATE_TYPE = "https://sigstore.dev/cosign/sign/v1"
BUNDLE_LIMIT = 4 << 20  # bytes
_PAYLOAD_TYPE = "application/vnd.in-toto+json"
_STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
_CONTENT = "dev.sigstore.bundle.content"
_PREDICATE = "dev.sigstore.bundle.predicateType"
_CREATED = "org.opencontainers.image.created"


@dataclass(frozen=True)
class Envelope:
    """What a bundle holds: the key's name, the signed bytes, and the signature."""

    hint: str
    payload: bytes
    signature: bytes


@dataclass(frozen=True)
class Claim:
    """What a statement says: its type, what it states, and the digests that it is about."""

    kind: str
    predicate_type: str
    digests: tuple[str, ...]


def statement(digest: str, predicate_type: str = PREDICATE_TYPE, predicate: Mapping[str, Any] | None = None) -> bytes:
    """Return the in-toto statement that a bundle signs: that ``digest`` is signed.

    Args:
        digest: the index's or manifest's digest.
        predicate_type: what is stated; anything but cosign's "sign" is no image signature.
        predicate: the statement's content.
    """
    algorithm, _, encoded = digest.partition(":")
    document = {
        "_type": _STATEMENT_TYPE,
        "subject": [{"digest": {algorithm: encoded}, "annotations": {}}],
        "predicateType": predicate_type,
        "predicate": predicate or {},
    }
    return descriptor.encode(document)


def sign(key: PrivateKey, content: bytes) -> bytes:
    """Sign a statement; return the bundle."""
    return wrap(content, key.sign(_pae(content)), key.public.hint)


def wrap(content: bytes, signature: bytes, hint: str) -> bytes:
    """Return the bundle of a statement and a signature that has been made already."""
    document = {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": hint}},
        "dsseEnvelope": {
            "payload": base64.b64encode(content).decode(),
            "payloadType": _PAYLOAD_TYPE,
            "signatures": [{"sig": base64.b64encode(signature).decode()}],
        },
    }
    return descriptor.encode(document)


def manifest(content: bytes, subject: Descriptor, predicate_type: str = PREDICATE_TYPE) -> bytes:
    """Return the manifest that hangs a bundle on an image; the bundle and ``{}`` must be stored as blobs too."""
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": MEDIA_TYPE,
        "config": descriptor.of(EMPTY_JSON, OCI_EMPTY).as_json(),
        "layers": [descriptor.of(content, MEDIA_TYPE).as_json()],
        "subject": {"mediaType": subject.media_type, "size": subject.size, "digest": subject.digest},
        "annotations": {
            _CONTENT: "dsse-envelope",
            _PREDICATE: predicate_type,
            _CREATED: datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        },
    }
    return descriptor.encode(document)


def may_sign(entry: Descriptor) -> bool:
    """Say whether a referrer may be a signature: a bundle whose entry does not say that it states something else."""
    return entry.artifact_type == MEDIA_TYPE and entry.annotations.get(_PREDICATE, PREDICATE_TYPE) == PREDICATE_TYPE


def verify(content: bytes, keys: Sequence[PublicKey], digest: str) -> PublicKey:
    """Check one bundle.

    Args:
        content: the bundle.
        keys: any of them may have signed.
        digest: the digest that it must be about.

    Returns:
        the key that signed.

    Raises:
        NotSigned: MALFORMED; BAD_SIGNATURE; TAMPERED if it names a given key and that key did not sign it; UNSIGNED
            if it states something else (an SBOM, say) than that an image is signed; OTHER_IMAGE.
    """
    envelope = parse(content)
    key = _signer(envelope, keys)
    _check_statement(envelope.payload, digest)
    return key


def layer(content: bytes, where: str) -> Descriptor:
    """Return the bundle's own descriptor from the manifest that hangs it on an image.

    Raises:
        Malformed: if the manifest cannot be read, or is not one bundle's.
    """
    document = descriptor.read_object(content, where)
    layers = descriptor.read_descriptors(document, "layers", where)
    if len(layers) != 1 or layers[0].media_type != MEDIA_TYPE:
        raise Malformed(f"{len(layers)} layers", where=where, expected=f"one of type {MEDIA_TYPE}")
    return layers[0]


def parse(content: bytes) -> Envelope:
    """Read a bundle by a public key.

    Raises:
        NotSigned: MALFORMED, or BAD_SIGNATURE if it is by a certificate.
    """
    try:
        document = json.loads(content)
        envelope = document["dsseEnvelope"]
        kind = (document["mediaType"], envelope["payloadType"])
        key = document["verificationMaterial"].get("publicKey")
        payload = base64.b64decode(envelope["payload"], validate=True)
        (one,) = envelope["signatures"]
        signature = base64.b64decode(one["sig"], validate=True)
        hint = key.get("hint", "") if key is not None else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
        raise NotSigned("MALFORMED", "no bundle with one signature in a DSSE envelope") from err
    if kind != (MEDIA_TYPE, _PAYLOAD_TYPE):
        raise NotSigned("MALFORMED", f"a bundle {kind}", expected=f"{MEDIA_TYPE} with {_PAYLOAD_TYPE}")
    if hint is None:
        raise NotSigned("BAD_SIGNATURE", "a bundle that names a certificate", expected="one by a public key")
    return Envelope(hint, payload, signature)


def _signer(envelope: Envelope, keys: Sequence[PublicKey]) -> PublicKey:
    """Return the key that signed an envelope."""
    for key in keys:
        if key.verifies(envelope.signature, _pae(envelope.payload)):
            return key
    for key in keys:
        if key.hint == envelope.hint:
            raise NotSigned("TAMPERED", f"a bundle that names {key.fingerprint} and is not by it")
    expected = " or ".join(key.fingerprint for key in keys)
    raise NotSigned("BAD_SIGNATURE", "a bundle that no given key has signed", expected=expected)


def claim(content: bytes) -> Claim:
    """Read a statement; the reverse of ``statement``.

    Raises:
        NotSigned: MALFORMED.
    """
    try:
        document = json.loads(content)
        kind, predicate_type = document["_type"], document["predicateType"]
        named = [f"sha256:{subject['digest'].get('sha256', '')}" for subject in document["subject"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
        raise NotSigned("MALFORMED", "the envelope holds no in-toto statement") from err
    return Claim(str(kind), str(predicate_type), tuple(named))


def _check_statement(content: bytes, digest: str) -> None:
    """Raise unless a statement says that this digest is signed."""
    said = claim(content)
    if said.predicate_type != PREDICATE_TYPE:
        raise NotSigned("UNSIGNED", f"the statement is a {said.predicate_type!r}", expected=PREDICATE_TYPE)
    if said.kind != _STATEMENT_TYPE:
        raise NotSigned("MALFORMED", f"a statement of type {said.kind!r}", expected=_STATEMENT_TYPE)
    if said.digests != (digest,):
        named = ", ".join(said.digests) or "nothing"
        raise NotSigned("OTHER_IMAGE", f"the statement names {named}", expected=f"{digest} alone")


def _pae(content: bytes) -> bytes:
    """Return DSSE's pre-authentication encoding: what is really signed."""
    return b"DSSEv1 %d %s %d %s" % (len(_PAYLOAD_TYPE), _PAYLOAD_TYPE.encode(), len(content), content)
