"""Copying an image to another registry with all that hangs on it: nothing is half there, what is there is not resent.

Blobs go first, then manifests, what names others after them; then what hangs on them becomes findable; the image's own
tag is the caller's to write, last. A run that was cut off is taken up by running it again.
"""

from __future__ import annotations

import io
import json
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol, cast

from countersign.oci import descriptor
from countersign.oci.descriptor import OCI_CONFIG, Descriptor
from countersign.oci.errors import RegistryError
from countersign.oci.tagged import Found
from signing.attachment import SIGNATURE, dummy_config
from signing.gather import AT_ONCE, Source, Stock

_IN_MEMORY = 1 << 20  # bytes of a blob that passes without a file
_ATTEMPTS = 4


class Target(Protocol):
    """Where an image is copied to: a repository, or a layout."""

    name: str

    def manifest_or_none(self, reference: str) -> Found:
        """Return a manifest by tag or digest, or None if there is none."""

    def has(self, digest: str) -> bool:
        """Say whether a blob is there."""

    def mount(self, what: Descriptor, source: object) -> bool:
        """Take a blob from another repository of the same registry; say whether that could be done."""

    def put(self, what: Descriptor, content: BinaryIO) -> None:
        """Store a blob."""

    def put_manifest(self, reference: str, content: bytes, media_type: str) -> None:
        """Store a manifest or index under a tag or its digest."""

    def show_referrers(self, digest: str, entries: Sequence[Descriptor]) -> None:
        """See to it that stored referrers of ``digest`` are found."""


@dataclass
class Carried:
    """What became of the blobs: numbers of them, and the bytes that were sent."""

    copied: int = 0
    mounted: int = 0
    present: int = 0
    sent: int = 0


def carry(stock: Stock, source: Source, target: Target, far: Callable[[str], None] = lambda _: None) -> Carried:
    """Copy all that belongs to an image; it has no tag of its own yet.

    Raises:
        RegistryError, NotFound: one of both fails, or lacks what it named; what has been copied stays for the next try.
    """
    done, lock = Carried(), threading.Lock()

    def one(part: Descriptor) -> None:
        outcome = _carry(part, stock, source, target)
        with lock:
            setattr(done, outcome, getattr(done, outcome) + 1)
            done.sent += part.size if outcome == "copied" else 0
            count = done.copied + done.mounted + done.present
            far(f"{count} of {len(stock.parts)} blobs, {done.sent / (1 << 20):.1f} MiB sent")

    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        list(pool.map(one, stock.parts.values()))
        _put_manifests(stock, target, pool)
        list(pool.map(lambda digest: target.show_referrers(digest, stock.referrers[digest]), stock.referrers))
        list(pool.map(lambda tag: _attach(stock, target, tag), stock.tags))
    finally:
        pool.shutdown(cancel_futures=True)
    return done


def _carry(part: Descriptor, stock: Stock, source: Source, target: Target) -> str:
    """Bring one blob; return what was done: the name of a number in ``Carried``."""
    if target.has(part.digest):
        return "present"
    if target.mount(part, source):
        return "mounted"
    if part.digest in stock.payloads:
        target.put(part, io.BytesIO(stock.payloads[part.digest]))
        return "copied"
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as file:
        content = cast("BinaryIO", file)
        source.fetch(part, content)
        target.put(part, content)
    return "copied"


def _put_manifests(stock: Stock, target: Target, pool: ThreadPoolExecutor) -> None:
    """Store every manifest by its digest: an index after all that it names."""

    def put(digest: str) -> None:
        content, what = stock.manifests[digest]
        target.put_manifest(digest, content, what.media_type)

    list(pool.map(put, (digest for digest, (_, what) in stock.manifests.items() if not what.is_index)))
    stored: set[str] = set()

    def put_index(digest: str) -> None:
        if digest in stored:
            return
        stored.add(digest)
        for child in stock.children(digest):
            if stock.manifests[child.digest][1].is_index:
                put_index(child.digest)
        put(digest)

    for digest, (_, what) in stock.manifests.items():
        if what.is_index:
            put_index(digest)


def _attach(stock: Stock, target: Target, tag: str) -> None:
    """Bring what lies under an attachment's tag: beside what the target has there, never instead of it."""
    content, what = stock.manifests[stock.tags[tag]]
    for _ in range(_ATTEMPTS):
        there = target.manifest_or_none(tag)
        if there is None:
            target.put_manifest(tag, content, what.media_type)
        elif (both := united(there[0], content, tag)) is None:
            return
        else:
            merged, config = both
            target.put(descriptor.of(config, OCI_CONFIG), io.BytesIO(config))
            target.put_manifest(tag, merged, there[1].media_type)
    raise RegistryError("other clients keep overwriting it", where=f"{target.name}:{tag}", do="relocate again")


def united(there: bytes, more: bytes, where: str) -> tuple[bytes, bytes] | None:
    """Return an attachment's manifest with the layers of another too, and its config; None if it has them all.

    Raises:
        Malformed: one of them cannot be read.
    """
    document: dict[str, Any] = descriptor.read_object(there, where)
    coming = descriptor.read_object(more, where)
    layers = [*document.get("layers", [])] if isinstance(document.get("layers"), list) else []
    known = {_identity(layer) for layer in descriptor.read_descriptors(document, "layers", where)}
    new = [
        raw
        for raw, layer in zip(coming["layers"], descriptor.read_descriptors(coming, "layers", where), strict=True)
        if _identity(layer) not in known
    ]
    if not new:
        return None
    document["layers"] = layers + new
    config = dummy_config([layer["digest"] for layer in document["layers"]])
    document["config"] = descriptor.of(config, OCI_CONFIG).as_json()
    return descriptor.encode(document), config


def _identity(layer: Descriptor) -> tuple[str, str]:
    """Return what makes a layer another: signatures with the same payload differ in their annotations."""
    signature = layer.annotations.get(SIGNATURE, "")
    return layer.digest, signature or json.dumps(dict(layer.annotations), sort_keys=True)
