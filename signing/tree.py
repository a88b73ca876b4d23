"""What hangs on an image: its platforms, and on each digest the attachments and referrers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from countersign.oci import descriptor, referrers
from countersign.oci import digest as digests
from countersign.oci.descriptor import Descriptor
from countersign.oci.errors import Malformed, NotFound, Tampered
from countersign.oci.reference import Reference
from countersign.oci.registry import Registry
from signing import attachment, bundle, notation, stored
from signing.stored import Found

_OTHER_TAGS = {".att": "attestation", ".sbom": "SBOM"}  # cosign's older places


@dataclass(frozen=True)
class Leaf:
    """One thing that hangs on a digest: what it is, its own digest, and what it says."""

    kind: str
    digest: str
    about: str


@dataclass(frozen=True)
class Node:
    """One digest of an image: an index or a manifest."""

    kind: str
    digest: str
    platform: str
    leaves: list[Leaf] = field(default_factory=list)
    children: list[Node] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "kind": self.kind,
            "digest": self.digest,
            "platform": self.platform,
            "leaves": [vars(leaf) for leaf in self.leaves],
            "children": [child.as_json() for child in self.children],
        }


def tree(registry: Registry, ref: Reference) -> Node:
    """Read what hangs on an image. Nothing is verified.

    Raises:
        NotFound: if there is no such image.
        Malformed: if its index cannot be read.
    """
    content, root = registry.manifest(ref.name, ref.digest or ref.tag or "")
    node = _node(registry, ref.name, root)
    if root.is_index:
        where = f"{ref.name}@{root.digest}"
        for child in descriptor.read_descriptors(descriptor.read_object(content, where), "manifests", where):
            node.children.append(_node(registry, ref.name, child))
    return node


def _node(registry: Registry, name: str, what: Descriptor) -> Node:
    platform = "/".join(str(what.platform[key]) for key in ("os", "architecture", "variant") if key in what.platform)
    leaves = [*_attachments(registry, name, what.digest), *_referrers(registry, name, what.digest)]
    leaves += _other_tags(registry, name, what.digest)
    return Node("index" if what.is_index else "manifest", what.digest, platform, leaves)


def _attachments(registry: Registry, name: str, digest: str) -> Iterator[Leaf]:
    for found in stored.listed(registry, name, digest, "attachment"):
        yield Leaf("attachment", found.entry.digest, _about(registry, name, digest, found))


def _referrers(registry: Registry, name: str, digest: str) -> Iterator[Leaf]:
    for entry in referrers.listing(registry, name, digest):
        if entry.artifact_type == bundle.MEDIA_TYPE:
            yield Leaf("bundle", entry.digest, _about(registry, name, digest, Found("bundle", entry)))
        elif entry.artifact_type == notation.MEDIA_TYPE:
            yield Leaf("notation", entry.digest, _about(registry, name, digest, Found("notation", entry)))
        else:
            yield Leaf("referrer", entry.digest, entry.artifact_type)


def _other_tags(registry: Registry, name: str, digest: str) -> Iterator[Leaf]:
    for suffix, kind in _OTHER_TAGS.items():
        tag = digests.tag(digest, suffix)
        found = registry.manifest_or_none(name, tag)
        if found:
            yield Leaf(kind, found[1].digest, f"tag {tag}")


def _about(registry: Registry, name: str, digest: str, found: Found) -> str:
    """Say what a signature on ``digest`` claims, or why it cannot be read."""
    try:
        content = stored.content(registry, name, found)
        if found.format == "attachment":
            repository, named = attachment.claim(content)
            return f"names {repository}" if named == digest else f"names {repository} and another digest, {named}"
        if found.format == "notation":
            return _envelope(content, digest)
        said = bundle.claim(content)
    except (Malformed, NotFound, Tampered) as err:
        return f"unreadable: {err}"
    what = "signature" if said.predicate_type == bundle.PREDICATE_TYPE else said.predicate_type
    return what if digest in said.digests else f"{what} of another digest, {', '.join(said.digests)}"


def _envelope(content: bytes, digest: str) -> str:
    """Say what an envelope claims: by whom, and until when."""
    from cryptography import x509

    found = notation.parse(content)
    try:
        by = x509.load_der_x509_certificate(found.chain[0]).subject.rfc4514_string()
    except (ValueError, IndexError):
        by = "a certificate that cannot be read"
    signed = notation.target(found).digest
    until = f", good until {found.expiry:%Y-%m-%d %H:%M}" if found.expiry else ""
    return f"signature by {by}{until}" if signed == digest else f"signature of another digest, {signed}, by {by}"
