"""What belongs to an image: its platforms, and all that hangs on any of it, wherever it lies.

The three places: the referrers API, the fallback index under the tag ``sha256-<hex>``, and attachments under
``sha256-<hex>.sig``, ``.att`` and ``.sbom``. What hangs on what hangs belongs to it too (a signature on an SBOM).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import BinaryIO, Protocol

from countersign.oci import descriptor
from countersign.oci import digest as digests
from countersign.oci.descriptor import Descriptor
from countersign.oci.errors import Malformed
from countersign.oci.tagged import Found
from signing import attachment

AT_ONCE = 8
SUFFIXES = (".sig", ".att", ".sbom")
_MAX_MANIFESTS = 4096
_MAX_MANIFEST_BYTES = 256 << 20
_MAX_PARTS = 20_000
_MAX_LEVELS = 12
_IMAGES = descriptor.INDEX_TYPES | descriptor.MANIFEST_TYPES
_ELSEWHERE_BY_LAW = ("nondistributable", "foreign")


class Source(Protocol):
    """Where an image is copied from: a repository, or a layout."""

    name: str

    def manifest(self, reference: str) -> tuple[bytes, Descriptor]:
        """Return a manifest or index by tag or digest."""

    def manifest_or_none(self, reference: str) -> Found:
        """Return ``manifest``, or None if there is none."""

    def referrers(self, digest: str) -> list[Descriptor]:
        """Return what refers to ``digest``."""

    def fetch(self, what: Descriptor, into: BinaryIO) -> None:
        """Write a blob into a file, checked against its descriptor."""


@dataclass
class Stock:
    """What belongs to an image.

    Attributes:
        root: the image's index or manifest.
        manifests: digest → content and descriptor of every manifest and index.
        parts: digest → descriptor of every blob that they name.
        referrers: digest → what refers to it.
        tags: the tags of attachments → the digest under each.
        names: digest → the repositories that attachments on it name.
        payloads: blobs that were read already.
    """

    root: Descriptor
    manifests: dict[str, tuple[bytes, Descriptor]] = field(default_factory=dict)
    parts: dict[str, Descriptor] = field(default_factory=dict)
    referrers: dict[str, list[Descriptor]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)
    payloads: dict[str, bytes] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """How many bytes the blobs have."""
        return sum(part.size for part in self.parts.values())

    def children(self, digest: str) -> list[Descriptor]:
        """Return the manifests and indexes that an index names; none for a manifest."""
        return [one for one in self.named(digest) if one.media_type in _IMAGES]

    def named(self, digest: str) -> list[Descriptor]:
        """Return all that a manifest or index names, but for its subject."""
        return _named(*self.manifests[digest])


@dataclass(frozen=True)
class _Around:
    """What is found at one digest."""

    content: bytes
    what: Descriptor
    referrers: list[Descriptor]
    tags: dict[str, Found]


def gather(source: Source, reference: str) -> Stock:
    """Find all that belongs to an image. Nothing is verified but digests.

    Raises:
        NotFound: it, or something that it names, is not there.
        Malformed: something cannot be read, or there is more than the bounds allow.
        RegistryError: the registry fails.
    """
    root = source.manifest(reference)
    stock = Stock(root[1])
    level = [root[1]]
    known = {root[1].digest: root}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in range(_MAX_LEVELS):
            if not level:
                break
            following: dict[str, Descriptor] = {}
            for around in pool.map(lambda what: _look(source, what, known.get(what.digest)), level):
                for what in _take(stock, around, known):
                    following.setdefault(what.digest, what)
            _check(stock, source)
            level = [what for digest, what in following.items() if digest not in stock.manifests]
        else:
            raise Malformed("what hangs on it nests too deep", where=str(reference), expected=f"{_MAX_LEVELS} levels")
        _read_names(source, stock, pool)
    return stock


def _look(source: Source, what: Descriptor, known: tuple[bytes, Descriptor] | None) -> _Around:
    content, found = known or source.manifest(what.digest)
    tags: dict[str, Found] = {}
    for suffix in SUFFIXES:
        tag = digests.tag(what.digest, suffix)
        if image := source.manifest_or_none(tag):
            tags[tag] = image
    return _Around(content, found, source.referrers(what.digest), tags)


def _take(stock: Stock, around: _Around, known: dict[str, tuple[bytes, Descriptor]]) -> Sequence[Descriptor]:
    """Note what was found at a digest; return what is to be looked at next."""
    digest = around.what.digest
    stock.manifests[digest] = (around.content, around.what)
    following = []
    for part in _named(around.content, around.what):
        if part.media_type in _IMAGES:
            following.append(part)
        elif not any(mark in part.media_type for mark in _ELSEWHERE_BY_LAW):
            stock.parts.setdefault(part.digest, part)
    if around.referrers:
        stock.referrers[digest] = around.referrers
        following += around.referrers
    for tag, image in around.tags.items():
        if image:
            stock.tags[tag] = image[1].digest
            known[image[1].digest] = image
            following.append(image[1])
    return following


def _named(content: bytes, what: Descriptor) -> list[Descriptor]:
    """Return all that a manifest or index names, but for its subject."""
    document = descriptor.read_object(content, what.digest)
    if what.is_index:
        return descriptor.read_descriptors(document, "manifests", what.digest)
    parts = descriptor.read_descriptors(document, "layers", what.digest) if "layers" in document else []
    return [descriptor.from_json(document.get("config"), f"{what.digest}: config"), *parts]


def _check(stock: Stock, source: Source) -> None:
    size = sum(what.size for _, what in stock.manifests.values())
    counts = ((len(stock.manifests), _MAX_MANIFESTS), (size, _MAX_MANIFEST_BYTES), (len(stock.parts), _MAX_PARTS))
    for count, most in counts:
        if count > most:
            raise Malformed(f"{count} manifests, blobs or bytes belong to it", where=source.name, expected=f"{most}")


def _read_names(source: Source, stock: Stock, pool: ThreadPoolExecutor) -> None:
    """Read which repositories the attachments name."""
    payloads: list[tuple[str, Descriptor]] = []
    for tag, digest in stock.tags.items():
        if tag.endswith(".sig"):
            on = tag.removesuffix(".sig").replace("-", ":", 1)
            payloads += [(on, layer) for layer, _ in attachment.listed(stock.manifests[digest][0], tag)]
    small = {layer.digest: layer for _, layer in payloads if layer.size <= attachment.PAYLOAD_LIMIT}
    stock.payloads.update(pool.map(lambda layer: (layer.digest, _payload(source, layer)), small.values()))
    for on, layer in payloads:
        try:
            repository, _ = attachment.claim(stock.payloads.get(layer.digest, b""))
        except Malformed:
            continue  # counts nowhere, here or there
        if repository not in stock.names.setdefault(on, []):
            stock.names[on].append(repository)


def _payload(source: Source, layer: Descriptor) -> bytes:
    content = io.BytesIO()
    source.fetch(layer, content)
    return content.getvalue()
