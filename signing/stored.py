"""Signatures in a registry: read what is there, add one and keep all others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from countersign.oci import referrers, tagged
from countersign.oci.descriptor import EMPTY_JSON, OCI_EMPTY, OCI_MANIFEST, Descriptor
from countersign.oci.errors import Malformed
from countersign.oci.registry import Registry
from signing import attachment, bundle, notation
from signing.attachment import Attachment

_MAX_SIGNATURES = 64  # of one format on one digest

Format = Literal["attachment", "bundle", "notation"]
FORMATS: tuple[Format, ...] = ("attachment", "bundle")
"""What is written unless another is asked for: a key is all that they need."""
KNOWN: tuple[Format, ...] = (*FORMATS, "notation")


@dataclass(frozen=True)
class Found:
    """One signature that a registry lists; its content is still to be read.

    Attributes:
        entry: the payload's layer of an attachment, the referrer's manifest of a bundle or envelope.
        signature: an attachment's signature, in base64.
    """

    format: Format
    entry: Descriptor
    signature: str = ""


def listed(registry: Registry, name: str, digest: str, chosen: Format) -> list[Found]:
    """Return the signatures of one format on ``digest``, none being an empty list.

    Raises:
        Malformed: if what lists them cannot be read, or they are more than 64.
    """
    where = f"{name}@{digest}"
    if chosen == "notation":
        entries = referrers.listing(registry, name, digest)
        found = [Found("notation", entry) for entry in entries if entry.artifact_type == notation.MEDIA_TYPE]
    elif chosen == "bundle":
        entries = referrers.listing(registry, name, digest)
        found = [Found("bundle", entry) for entry in entries if bundle.may_sign(entry)]
    else:
        image = registry.manifest_or_none(name, attachment.tag(digest))
        layers = attachment.listed(image[0], where) if image else []
        found = [Found("attachment", layer, signature) for layer, signature in layers]
    if len(found) > _MAX_SIGNATURES:
        raise Malformed(f"{len(found)} signatures", where=where, expected=f"at most {_MAX_SIGNATURES}")
    return found


def content(registry: Registry, name: str, found: Found, limit: int = bundle.BUNDLE_LIMIT) -> bytes:
    """Return an attachment's payload, a bundle of at most that many bytes, or an envelope.

    Raises:
        NotFound: if the registry lists it and does not have it.
        Tampered: if the bytes are not those of their digest.
        Malformed: if it is too large, or the referrer's manifest is none of a bundle.
    """
    if found.format == "attachment":
        return registry.blob(name, found.entry.digest, attachment.PAYLOAD_LIMIT)
    manifest, _ = registry.manifest(name, found.entry.digest)
    if found.format == "notation":
        envelope = notation.layer(manifest, f"{name}@{found.entry.digest}")
        return registry.blob(name, envelope.digest, notation.ENVELOPE_LIMIT)
    layer = bundle.layer(manifest, f"{name}@{found.entry.digest}")
    return registry.blob(name, layer.digest, limit)


def add_attachment(registry: Registry, name: str, digest: str, new: Attachment) -> None:
    """Store an attachment on ``digest``, beside those that are there.

    Raises:
        RegistryError: if the registry fails, or other writers keep overwriting ours.
    """
    tag = attachment.tag(digest)
    where = f"{name}:{tag}"
    registry.put_blob(name, new.payload)

    def wanted(found: tagged.Found) -> tuple[bytes, str] | None:
        there = attachment.listed(found[0], where) if found else []
        if any((layer.digest, signature) == (new.layer.digest, new.signature) for layer, signature in there):
            return None
        manifest, config = attachment.appended(found[0] if found else None, new, where)
        registry.put_blob(name, config)
        return manifest, found[1].media_type if found else OCI_MANIFEST

    tagged.change(registry, name, tag, wanted)


def add_bundle(
    registry: Registry, name: str, subject: Descriptor, new: bytes, predicate_type: str = bundle.PREDICATE_TYPE
) -> Descriptor:
    """Store a bundle and hang it on ``subject``; return its manifest's descriptor."""
    registry.put_blob(name, EMPTY_JSON, OCI_EMPTY)
    registry.put_blob(name, new)
    return referrers.add(registry, name, bundle.manifest(new, subject, predicate_type))


def add_envelope(registry: Registry, name: str, subject: Descriptor, new: bytes) -> Descriptor:
    """Store a Notary Project envelope and hang it on ``subject``; return its manifest's descriptor."""
    registry.put_blob(name, EMPTY_JSON)
    registry.put_blob(name, new)
    return referrers.add(registry, name, notation.manifest(new, subject, notation.parse(new).chain))
