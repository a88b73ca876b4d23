"""Signatures in a registry: read what is there, add one and keep all others.

Nothing in the distribution specification locks a tag, so adding to ``sha256-….sig`` is optimistic: read, append,
write, read again, and repeat if another writer's version won.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from oci.descriptor import EMPTY_JSON, OCI_EMPTY, OCI_MANIFEST, Descriptor
from oci.errors import Malformed, RegistryError
from oci.registry import Registry
from signing import attachment, bundle
from signing.attachment import Attachment

Format = Literal["attachment", "bundle"]
FORMATS: tuple[Format, ...] = ("attachment", "bundle")

_MAX_SIGNATURES = 64  # of one format on one digest
_ATTEMPTS = 6


@dataclass(frozen=True)
class Bundle:
    """A stored bundle: the manifest that hangs it on the image, and its bytes."""

    manifest: Descriptor
    content: bytes


def listed(registry: Registry, name: str, digest: str, chosen: Format) -> Sequence[Attachment | Bundle]:
    """Return the signatures of one format on ``digest``."""
    return attachments(registry, name, digest) if chosen == "attachment" else bundles(registry, name, digest)


def attachments(registry: Registry, name: str, digest: str) -> list[Attachment]:
    """Return the attachments on ``digest``, none being an empty list.

    Raises:
        Malformed: if they cannot be read or are more than 64.
    """
    tag = attachment.tag(digest)
    found = registry.manifest_or_none(name, tag)
    if found is None:
        return []
    where = f"{name}:{tag}"
    layers = attachment.listed(found[0], where)
    _bounded(len(layers), where)
    return [Attachment(registry.blob(name, layer.digest, attachment.PAYLOAD_LIMIT), sig) for layer, sig in layers]


def bundles(registry: Registry, name: str, digest: str) -> list[Bundle]:
    """Return the bundles that refer to ``digest``, none being an empty list.

    Raises:
        Malformed: if they cannot be read or are more than 64.
    """
    entries = [entry for entry in registry.referrers(name, digest) if entry.artifact_type == bundle.MEDIA_TYPE]
    _bounded(len(entries), f"{name}@{digest}")
    found = []
    for entry in entries:
        manifest, _ = registry.manifest(name, entry.digest)
        layer = bundle.layer(manifest, f"{name}@{entry.digest}")
        if layer is not None:
            found.append(Bundle(entry, registry.blob(name, layer.digest, bundle.BUNDLE_LIMIT)))
    return found


def add_attachment(registry: Registry, name: str, digest: str, new: Attachment) -> None:
    """Store an attachment on ``digest``, beside those that are there.

    Raises:
        RegistryError: if the registry fails, or other writers keep overwriting ours.
    """
    tag = attachment.tag(digest)
    where = f"{name}:{tag}"
    registry.put_blob(name, new.payload)
    for attempt in range(_ATTEMPTS):
        found = registry.manifest_or_none(name, tag)
        if found and (new.layer.digest, new.signature) in _pairs(found[0], where):
            return
        if attempt:
            time.sleep(random.uniform(0, 0.05 * attempt))  # noqa: S311  writers that collide must not march in step
        manifest, config = attachment.appended(found[0] if found else None, new, where)
        registry.put_blob(name, config)
        registry.put_manifest(name, tag, manifest, found[1].media_type if found else OCI_MANIFEST)
    raise RegistryError("other clients keep overwriting the signatures", where=where, do="sign again")


def add_bundle(
    registry: Registry, name: str, subject: Descriptor, content: bytes, predicate_type: str = bundle.PREDICATE_TYPE
) -> Descriptor:
    """Store a bundle and hang it on ``subject``; return its manifest's descriptor."""
    registry.put_blob(name, EMPTY_JSON, OCI_EMPTY)
    registry.put_blob(name, content)
    return registry.add_referrer(name, bundle.manifest(content, subject, predicate_type))


def _pairs(manifest: bytes, where: str) -> list[tuple[str, str]]:
    return [(layer.digest, signature) for layer, signature in attachment.listed(manifest, where)]


def _bounded(count: int, where: str) -> None:
    if count > _MAX_SIGNATURES:
        raise Malformed(f"{count} signatures", where=where, expected=f"at most {_MAX_SIGNATURES}")
