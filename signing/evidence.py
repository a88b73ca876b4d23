"""Evidence in a file: what signs images, without the images, for nodes that reach no registry.

A tar archive of ``evidence.json`` (``countersign.evidence/v1``), which names the images, and of one image layout for
each, without layers. The gate judges it where it arrives (``countersign-gate evidence import``): nothing of it is
trusted.
"""

from __future__ import annotations

import json
import os
import tarfile
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import IO, Any, BinaryIO, TypeVar, cast

from countersign.console.errors import UsageError
from countersign.oci.layouts import NewLayout
from countersign.oci.reference import Reference
from countersign.oci.registry import Registry
from countersign.oci.repository import Repository
from signing.gather import Stock, gather
from signing.relocate import carry

VERSION = "countersign.evidence/v1"
MAX_IMAGES = 256
_MAX_BLOB = 4 << 20  # bytes; the gate's own bound of a file


@dataclass(frozen=True)
class Exported:
    """One image whose evidence is in the file.

    Attributes:
        name: the repository with its registry.
        digest: of its index or manifest.
        manifests: the digests of its platforms.
        signatures: how many tags of attachments and referrers there are.
        left_out: blobs over the bound, such as large SBOMs.
    """

    name: str
    digest: str
    manifests: Sequence[str]
    signatures: int
    left_out: int


def export(
    registry: Registry, refs: Sequence[Reference], into: BinaryIO, far: Callable[[str], None] = lambda _: None
) -> list[Exported]:
    """Write the evidence of images, as their registries have it now.

    Args:
        into: takes the archive, which is whole only when this returns.

    Raises:
        NotFound: there is no such image.
        RegistryError: a registry fails.
        UsageError: more than 256 images.
    """
    if len(refs) > MAX_IMAGES:
        raise UsageError(f"{len(refs)} images", where="--image", expected=f"at most {MAX_IMAGES} in a file")
    with tempfile.TemporaryDirectory(prefix="countersign-") as work:
        done = []
        for number, ref in enumerate(refs):
            far(f"{number + 1} of {len(refs)}: {ref}")
            done.append(_one(registry, ref, Path(work) / str(number)))
        document = {
            "version": VERSION,
            "images": [
                {"name": one.name, "digest": one.digest, "manifests": list(one.manifests), "folder": str(number)}
                for number, one in enumerate(done)
            ],
        }
        _pack(Path(work), json.dumps(document, indent=1).encode(), into)
    return done


def _one(registry: Registry, ref: Reference, folder: Path) -> Exported:
    source = Repository(registry, ref.name)
    stock = gather(source, ref.digest or ref.tag or "")
    image = _image(stock)
    signing = {
        part.digest: part
        for digest in stock.manifests.keys() - image
        for part in stock.named(digest)
        if part.digest in stock.parts
    }
    small = {digest: part for digest, part in signing.items() if part.size <= _MAX_BLOB}
    target = NewLayout(folder)
    carry(replace(stock, parts=small), source, target)
    content, what = stock.manifests[stock.root.digest]
    target.put_manifest("latest", content, what.media_type)
    manifests = [digest for digest in stock.manifests if digest in image and digest != stock.root.digest]
    signatures = len(stock.tags) + sum(map(len, stock.referrers.values()))
    return Exported(ref.name, stock.root.digest, manifests, signatures, len(signing) - len(small))


def _image(stock: Stock) -> set[str]:
    """Return the digests of the image itself: its root, and what that names."""
    found: set[str] = set()
    waiting = [stock.root.digest]
    while waiting:
        digest = waiting.pop()
        if digest not in found:
            found.add(digest)
            waiting += [child.digest for child in stock.children(digest)]
    return found


def _pack(folder: Path, document: bytes, into: BinaryIO) -> None:
    with tarfile.open(fileobj=into, mode="w", format=tarfile.PAX_FORMAT) as archive:
        entry = tarfile.TarInfo("evidence.json")
        entry.size = len(document)
        archive.addfile(entry, BytesIO(document))
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = tarfile.TarInfo(path.relative_to(folder).as_posix())
            entry.size = path.stat().st_size
            with path.open("rb") as file:
                archive.addfile(entry, file)


def unite(archives: Sequence[bytes], into: BinaryIO) -> None:
    """Write the images of several archives into one; what two of them have alike is there once.

    Args:
        archives: as `export` or a gate writes them.
        into: takes the archive.

    Raises:
        UsageError: one is no such archive, or there are more than 256 images.
    """
    images: list[dict[str, Any]] = []
    members: dict[str, bytes] = {}
    seen: set[tuple[object, ...]] = set()
    for archive in archives:
        files = _unpacked(archive)
        for image in _listed(files):
            inside = f"{image.get('folder')}/"
            own = {name.removeprefix(inside): file for name, file in files.items() if name.startswith(inside)}
            mark = (image["name"], image["digest"], *sorted(own))
            if mark not in seen:
                seen.add(mark)
                folder = str(len(images))
                images.append({**image, "folder": folder})
                members |= {f"{folder}/{name}": file for name, file in own.items()}
    if len(images) > MAX_IMAGES:
        raise UsageError(
            f"{len(images)} images", expected=f"at most {MAX_IMAGES} in a file", do="name some with --image"
        )
    document = json.dumps({"version": VERSION, "images": images}, indent=1).encode()
    with tarfile.open(fileobj=into, mode="w", format=tarfile.PAX_FORMAT) as archive_out:
        for name, content in {"evidence.json": document, **members}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive_out.addfile(entry, BytesIO(content))


def _unpacked(archive: bytes) -> dict[str, bytes]:
    """Return name → content of the files in an archive."""
    try:
        with tarfile.open(fileobj=BytesIO(archive), mode="r:") as opened:
            return {one.name: cast("IO[bytes]", opened.extractfile(one)).read() for one in opened if one.isfile()}
    except tarfile.TarError as err:
        raise UsageError(f"no archive of evidence: {err}") from err


def _listed(files: Mapping[str, bytes]) -> list[dict[str, Any]]:
    """Return what an archive says of its images."""
    try:
        images = json.loads(files["evidence.json"])["images"]
        return [{**image, "name": str(image["name"]), "digest": str(image["digest"])} for image in images]
    except (ValueError, KeyError, TypeError) as err:
        raise UsageError("no archive of evidence: its evidence.json cannot be read") from err


_T = TypeVar("_T")


def write(path: Path, make: Callable[[BinaryIO], _T]) -> _T:
    """Have a file made, which comes into being as a whole.

    Raises:
        UsageError: it is there already, or its folder cannot be written.
    """
    if path.exists():
        raise UsageError("is there already", where=str(path), do="remove it, or name another file")
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as err:
        raise UsageError(f"cannot be written: {err.strerror}", where=str(path.parent)) from err
    try:
        with os.fdopen(handle, "wb") as file:
            done = make(cast("BinaryIO", file))
            os.fchmod(file.fileno(), 0o644)
        Path(name).rename(path)
    finally:
        Path(name).unlink(missing_ok=True)
    return done
