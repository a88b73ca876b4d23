"""Descriptors, manifests and indexes, as the OCI image specification 1.1 has them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from countersign.oci import digest as digests
from countersign.oci.errors import Malformed

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_INDEX})
MANIFEST_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})

MANIFEST_LIMIT = 4 << 20  # bytes; what the distribution specification asks registries to take
EMPTY_JSON = b"{}"


@dataclass(frozen=True)
class Descriptor:
    """What points at content: media type, digest and size in bytes, and what hangs on a referrer's entry."""

    media_type: str
    digest: str
    size: int
    artifact_type: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)
    platform: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_index(self) -> bool:
        """Whether it points at an image index (or Docker's manifest list)."""
        return self.media_type in INDEX_TYPES

    def as_json(self) -> dict[str, Any]:
        """Return the JSON object, without the optional fields that are empty."""
        out: dict[str, Any] = {"mediaType": self.media_type, "size": self.size, "digest": self.digest}
        optional = {
            "artifactType": self.artifact_type,
            "annotations": dict(self.annotations),
            "platform": dict(self.platform),
        }
        return out | {key: value for key, value in optional.items() if value}


def of(content: bytes, media_type: str, **optional: Any) -> Descriptor:
    """Return the descriptor of ``content``, with its sha256 digest."""
    return Descriptor(media_type, digests.of(content), len(content), **optional)


def from_json(value: object, where: str) -> Descriptor:
    """Read one descriptor.

    Raises:
        Malformed: if a required field is missing or of a wrong type, or the digest is none.
    """
    if not isinstance(value, dict):
        raise Malformed("a descriptor is not an object", where=where)
    media_type, digest, size = value.get("mediaType"), value.get("digest"), value.get("size")
    if not isinstance(media_type, str) or not isinstance(digest, str) or not digests.valid(digest):
        raise Malformed("a descriptor lacks its media type or digest", where=where)
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise Malformed(f"the descriptor of {digest} has no size", where=where)
    artifact_type = value.get("artifactType") or ""
    if not isinstance(artifact_type, str):
        raise Malformed(f"the artifactType of {digest} is not a string", where=where)
    platform = value.get("platform") or {}
    if not isinstance(platform, dict):
        raise Malformed(f"the platform of {digest} is not an object", where=where)
    return Descriptor(media_type, digest, size, artifact_type, read_annotations(value, where), platform)


def read_annotations(value: Mapping[str, Any], where: str) -> dict[str, str]:
    """Return the ``annotations`` of a descriptor, manifest or index (none: empty)."""
    annotations = value.get("annotations") or {}
    if not isinstance(annotations, dict) or not all(isinstance(text, str) for text in annotations.values()):
        raise Malformed("annotations map no strings to strings", where=where)
    return annotations


def read_object(content: bytes, where: str) -> dict[str, Any]:
    """Parse a JSON object, such as a manifest or an index.

    Raises:
        Malformed: if it is not a JSON object.
    """
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as err:
        raise Malformed(f"no JSON: {err}", where=where) from err
    if not isinstance(value, dict):
        raise Malformed("the JSON is not an object", where=where)
    return value


def read_descriptors(document: Mapping[str, Any], key: str, where: str) -> list[Descriptor]:
    """Return the descriptors in the list ``key`` ("manifests" of an index, "layers" of a manifest).

    A list that is null has nothing in it: registries in Go write an empty one so.
    """
    values = document.get(key, ())
    values = [] if values is None else values
    if not isinstance(values, list):
        raise Malformed(f"no list {key}", where=where)
    return [from_json(value, f"{where}: {key}[{i}]") for i, value in enumerate(values)]


def artifact_type(manifest: Mapping[str, Any]) -> str:
    """Return what a manifest is: its artifactType, else its config's media type ("Guidelines for Artifact Usage")."""
    own = manifest.get("artifactType")
    if isinstance(own, str) and own:
        return own
    config = manifest.get("config")
    media_type = config.get("mediaType") if isinstance(config, dict) else None
    return media_type if isinstance(media_type, str) else ""


def encode(document: Mapping[str, Any]) -> bytes:
    """Encode a manifest or index compactly, in the order of its keys."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
