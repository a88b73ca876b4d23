"""OCI image layouts ("OCI Image Layout Specification"): an image as a folder, pushed to a registry."""

from __future__ import annotations

from pathlib import Path

from countersign.console.errors import UsageError
from countersign.oci import descriptor
from countersign.oci import digest as digests
from countersign.oci.descriptor import MANIFEST_LIMIT, Descriptor
from countersign.oci.registry import Registry

_REF_NAME = "org.opencontainers.image.ref.name"
_MAX_DEPTH = 4  # indexes in indexes


def push(registry: Registry, name: str, folder: Path, tag: str) -> Descriptor:
    """Push the image of a layout with all that it is made of; children go before what names them.

    Args:
        folder: the layout: oci-layout, index.json, blobs/.
        tag: the tag that the image gets; if the layout holds several images, also the one to choose.

    Returns:
        the descriptor of the image's index or manifest.

    Raises:
        UsageError: if the folder is not a layout, lacks a blob, or leaves open which image is meant.
    """
    what = root(folder, tag)
    content = _read(folder, what)
    _push_parts(registry, name, folder, what, content, 0)
    return registry.put_manifest(name, tag, content, what.media_type)


def root(folder: Path, tag: str = "") -> Descriptor:
    """Return the descriptor of a layout's only image, or of the one that is called ``tag``."""
    path = folder / "index.json"
    try:
        content = path.read_bytes()
    except OSError as err:
        raise UsageError(f"no OCI layout: {err.strerror}", where=str(path)) from err
    found = descriptor.read_descriptors(descriptor.read_object(content, str(path)), "manifests", str(path))
    named = [entry for entry in found if entry.annotations.get(_REF_NAME) == tag]
    chosen = found if len(found) == 1 else named
    if len(chosen) != 1:
        raise UsageError(f"{len(found)} images, {len(named)} of them called {tag!r}", where=str(path), expected="one")
    return chosen[0]


def _push_parts(registry: Registry, name: str, folder: Path, what: Descriptor, content: bytes, depth: int) -> None:
    """Push what a manifest or index names."""
    document = descriptor.read_object(content, what.digest)
    if what.is_index:
        if depth == _MAX_DEPTH:
            raise UsageError("indexes nested too deep", where=str(folder), expected=f"at most {_MAX_DEPTH}")
        for child in descriptor.read_descriptors(document, "manifests", what.digest):
            inner = _read(folder, child)
            _push_parts(registry, name, folder, child, inner, depth + 1)
            registry.put_manifest(name, child.digest, inner, child.media_type)
        return
    config = descriptor.from_json(document.get("config"), f"{what.digest}: config")
    for part in (config, *descriptor.read_descriptors(document, "layers", what.digest)):
        with _path(folder, part).open("rb") as file:
            registry.put_stream(name, part, file)


def _read(folder: Path, what: Descriptor) -> bytes:
    """Read a manifest or index, checking it against its digest."""
    path = _path(folder, what)
    if what.size > MANIFEST_LIMIT or path.stat().st_size != what.size:
        raise UsageError(f"{path.stat().st_size} bytes", where=str(path), expected=f"{what.size}, at most 4 MiB")
    content = path.read_bytes()
    if not digests.matches(what.digest, content):
        raise UsageError("the content is not that of its name", where=str(path))
    return content


def _path(folder: Path, what: Descriptor) -> Path:
    algorithm, _, encoded = what.digest.partition(":")
    path = folder / "blobs" / algorithm / encoded
    if not path.is_file():
        raise UsageError("the layout lacks this blob", where=str(path))
    return path
