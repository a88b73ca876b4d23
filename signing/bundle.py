"""Bundles: Sigstore bundle v0.3 with a DSSE envelope, hung on the image as an OCI referrer.

The envelope holds an in-toto Statement v1 whose subject is the image's digest; it names no repository. Specified in
protobuf-specs ``sigstore_bundle.proto``, DSSE v1 (the signature is over the PAE), and cosign's BUNDLE_SPEC.md.
All functions are pure: bytes in, bytes out.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from countersign.keys.pair import PrivateKey, PublicKey
from countersign.oci import descriptor
from countersign.oci.descriptor import EMPTY_JSON, OCI_EMPTY, OCI_MANIFEST, Descriptor
from countersign.oci.errors import Malformed

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PREDICATE_TYPE = "https://sigstore.dev/cosign/sign/v1"
BUNDLE_LIMIT = 4 << 20  # bytes
_PAYLOAD_TYPE = "application/vnd.in-toto+json"
_STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
_CONTENT = "dev.sigstore.bundle.content"
_PREDICATE = "dev.sigstore.bundle.predicateType"
_CREATED = "org.opencontainers.image.created"


@dataclass(frozen=True)
class Claim:
    """What a statement says: what it states, and the digests that it is about."""

    predicate_type: str
    digests: tuple[str, ...]


def statement(
    digest: str,
    predicate_type: str = PREDICATE_TYPE,
    predicate: Mapping[str, Any] | None = None,
    *,
    named: bool = False,
) -> bytes:
    """Return the in-toto statement that a bundle signs: that ``digest`` is signed.

    Args:
        predicate_type: what is stated; anything but cosign's "sign" is not an image signature.
        named: give the subject a name, an empty one: sigstore-python reads no subject without.
    """
    algorithm, _, encoded = digest.partition(":")
    name = {"name": ""} if named else {}
    document = {
        "_type": _STATEMENT_TYPE,
        "subject": [{**name, "digest": {algorithm: encoded}, "annotations": {}}],
        "predicateType": predicate_type,
        "predicate": predicate or {},
    }
    return descriptor.encode(document)


def sign(key: PrivateKey, content: bytes) -> bytes:
    """Sign a statement; return the bundle."""
    return wrap(content, key.sign(pae(content)), key.public.hint)


def wrap(content: bytes, signature: bytes, hint: str) -> bytes:
    """Return the bundle of a statement and a signature that a key has made already."""
    return enclose(content, signature, {"publicKey": {"hint": hint}})


def enclose(content: bytes, signature: bytes, material: Mapping[str, Any]) -> bytes:
    """Return the bundle of a statement, its signature, and what verifies that (``verificationMaterial``)."""
    document = {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": material,
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


def signed_by(key: PublicKey, content: bytes, stated: bytes, material: Mapping[str, Any] | None = None) -> bool:
    """Say whether a bundle is exactly a statement, signed with this key, beside exactly this material.

    White space between tokens apart: cosign's JSON library puts some there, by chance of its build.

    Args:
        stated: the statement, as ``statement`` makes it.
        material: what verifies it (``verificationMaterial``); the key's own hint if there is none.
    """
    material = material or {"publicKey": {"hint": key.hint}}
    try:
        envelope = json.loads(content)["dsseEnvelope"]
        signature = base64.b64decode(envelope["signatures"][0]["sig"])
        payload = base64.b64decode(envelope["payload"])
        same = _same(payload, stated) and _same(content, enclose(payload, signature, material))
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        return False
    return same and key.verifies(signature, pae(payload))


def _same(content: bytes, ours: bytes) -> bool:
    """Say whether two JSON documents differ in white space between tokens alone; ``ours`` has none in its strings."""
    # Equal texts have no member twice, and equal documents no white space within a string.
    return b"".join(content.split()) == ours and json.loads(content) == json.loads(ours)


def may_sign(entry: Descriptor) -> bool:
    """Say whether a referrer may be a signature's bundle: not one that is annotated as stating something else."""
    return may_state(entry, PREDICATE_TYPE)


def may_state(entry: Descriptor, predicate_type: str) -> bool:
    """Say whether a referrer may be a bundle of that predicate type: not one that is annotated as another's."""
    return entry.artifact_type == MEDIA_TYPE and entry.annotations.get(_PREDICATE, predicate_type) == predicate_type


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


def claim(content: bytes) -> Claim:
    """Read what a bundle's statement says, whoever signed it.

    Raises:
        Malformed: if it is not a bundle with a statement.
    """
    try:
        document = json.loads(base64.b64decode(json.loads(content)["dsseEnvelope"]["payload"]))
        named = [f"sha256:{subject['digest'].get('sha256', '')}" for subject in document["subject"]]
        return Claim(str(document["predicateType"]), tuple(named))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
        raise Malformed("no bundle with an in-toto statement") from err


def pae(content: bytes) -> bytes:
    """Return DSSE's pre-authentication encoding: what is really signed."""
    return b"DSSEv1 %d %s %d %s" % (len(_PAYLOAD_TYPE), _PAYLOAD_TYPE.encode(), len(content), content)
