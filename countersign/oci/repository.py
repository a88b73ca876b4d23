"""One repository of a registry, as a place that images are copied from and to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO

from countersign.oci import referrers
from countersign.oci.descriptor import Descriptor
from countersign.oci.registry import Registry
from countersign.oci.tagged import Found


class Repository:
    """A repository, with its registry.

    Methods raise what ``Registry`` raises.
    """

    def __init__(self, registry: Registry, name: str) -> None:
        self.registry = registry
        self.name = name

    def manifest(self, reference: str) -> tuple[bytes, Descriptor]:
        """Return a manifest or index by tag or digest."""
        return self.registry.manifest(self.name, reference)

    def manifest_or_none(self, reference: str) -> Found:
        """Return ``manifest``, or None if there is none."""
        return self.registry.manifest_or_none(self.name, reference)

    def referrers(self, digest: str) -> list[Descriptor]:
        """Return what refers to ``digest``, by the API and by the tag."""
        return referrers.listing(self.registry, self.name, digest)

    def fetch(self, what: Descriptor, into: BinaryIO) -> None:
        """Write a blob into a file."""
        self.registry.fetch(self.name, what, into)

    def has(self, digest: str) -> bool:
        """Say whether a blob is there."""
        return self.registry.has_blob(self.name, digest)

    def mount(self, what: Descriptor, source: object) -> bool:
        """Take a blob from another repository of the same registry; say whether that could be done."""
        if not isinstance(source, Repository) or source.name.partition("/")[0] != self.name.partition("/")[0]:
            return False
        return self.registry.mount(self.name, what.digest, source.name)

    def put(self, what: Descriptor, content: BinaryIO) -> None:
        """Store a blob."""
        self.registry.put_stream(self.name, what, content)

    def put_manifest(self, reference: str, content: bytes, media_type: str) -> None:
        """Store a manifest or index under a tag or its digest."""
        self.registry.put_manifest(self.name, reference, content, media_type)

    def show_referrers(self, digest: str, entries: Sequence[Descriptor]) -> None:
        """See to it that stored referrers of ``digest`` are found."""
        referrers.show(self.registry, self.name, digest, entries)
