"""Where an image is taken from and to, as a user writes it: a reference, ``oci:DIR``, ``oci-archive:FILE``."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from countersign.console.errors import UsageError
from countersign.oci.reference import parse
from countersign.oci.registry import Registry

if TYPE_CHECKING:
    from signing.gather import Source
    from signing.relocate import Target

_LAYOUT, _ARCHIVE, _DOCKER = "oci:", "oci-archive:", "docker://"
_NOT_READ = ("docker-archive:", "docker-daemon:", "containers-storage:", "dir:", "ostree:", "http://", "https://")
_FORMS = "REGISTRY/NAME:TAG, oci:DIR[:TAG] or oci-archive:FILE[:TAG]"
_TAG_RE = re.compile(r"[\w][\w.-]{0,127}", re.ASCII)
_DIGEST_RE = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Place:
    """Where an image lies or goes.

    Attributes:
        kind: "registry", "layout" or "archive".
        name: the repository's full name; "" for files.
        path: the folder or archive; None for a registry.
        tag: the tag that was written, or "".
        digest: the digest that was written, or "".
    """

    kind: str
    name: str = ""
    path: Path | None = None
    tag: str = ""
    digest: str = ""

    @property
    def reference(self) -> str:
        """What was written: digest, else tag, else ""."""
        return self.digest or self.tag

    def __str__(self) -> str:
        """Return what it is called in messages."""
        prefix = {"layout": f"{_LAYOUT}{self.path}", "archive": f"{_ARCHIVE}{self.path}"}.get(self.kind, self.name)
        if self.digest:
            return f"{prefix}@{self.digest}"
        return f"{prefix}:{self.tag}" if self.tag else prefix


def read(text: str, option: str) -> Place:
    """Read where an image lies or goes.

    Raises:
        BadReference: it is not an image reference.
        UsageError: it is of a kind that is not read here.
    """
    if not text:
        raise UsageError(
            "no image", where=option, expected="REGISTRY/NAME:TAG, oci:DIR[:TAG] or oci-archive:FILE[:TAG]"
        )
    for prefix, kind in ((_LAYOUT, "layout"), (_ARCHIVE, "archive")):
        if text.startswith(prefix):
            return _file(text.removeprefix(prefix), kind, option)
    other = next((prefix for prefix in _NOT_READ if text.startswith(prefix)), "")
    if other:
        raise UsageError(f"{other} is not read here", where=option, expected=_FORMS)
    bare = text.removeprefix(_DOCKER)
    ref = parse(bare)
    written = ":" in bare.rpartition("/")[2] and ref.tag
    return Place("registry", ref.name, None, ref.tag or "" if written else "", ref.digest or "")


def _file(rest: str, kind: str, option: str) -> Place:
    whole = Path(rest).expanduser()
    path, colon, tag = rest.rpartition(":")
    if whole.exists() or not colon or "/" in tag:
        path, tag = rest, ""
    if not path or (tag and not _TAG_RE.fullmatch(tag)):
        raise UsageError(
            f"got {rest!r}", where=option, expected=f"{'oci' if kind == 'layout' else 'oci-archive'}:PATH[:TAG]"
        )
    return Place(kind, "", Path(path).expanduser(), tag)


def aimed(source: Place, target: Place) -> Place:
    """Return the target with the tag that it gets: its own, else the source's; "latest" in files without either.

    Raises:
        UsageError: the target names another digest than the source.
    """
    if target.digest and target.digest != source.digest:
        do = "leave the digest out: an image keeps its own"
        raise UsageError(f"{target.digest} is not the source's digest", where="--to", do=do)
    tag = target.tag or source.tag or ("" if target.kind == "registry" or target.digest else "latest")
    if target.kind == "registry" and not source.tag and not source.digest:
        tag = tag or "latest"
    return Place(target.kind, target.name, target.path, tag, target.digest)


def origin(place: Place, registry: Registry) -> tuple[Source, str]:
    """Return where to copy from, and what the image is called there.

    Raises:
        UsageError: there is no such layout or archive.
    """
    from countersign.oci.files import Archive, Folder
    from countersign.oci.layouts import Layout
    from countersign.oci.repository import Repository

    if place.path is None:
        return Repository(registry, place.name), place.reference or "latest"
    files = Archive(place.path) if place.kind == "archive" else Folder(place.path)
    return Layout(files), place.reference


@contextmanager
def destination(place: Place, registry: Registry) -> Iterator[Target]:
    """Yield where to copy to; an archive is put in place as a whole when the block ends well.

    Raises:
        UsageError: the archive is there already, or its folder cannot be written.
    """
    from countersign.oci.layouts import NewLayout
    from countersign.oci.repository import Repository

    if place.path is None:
        yield Repository(registry, place.name)
    elif place.kind == "layout":
        try:
            layout = NewLayout(place.path)
        except OSError as err:
            what = f"cannot be written: {err.strerror}"
            raise UsageError(what, where=str(place.path), do="name another folder") from err
        yield layout
    else:
        with _archive(place.path) as folder:
            yield NewLayout(folder)


def folder_of(target: Target) -> Path | None:
    """Return the folder of a layout; None for a repository."""
    from countersign.oci.layouts import NewLayout

    return target.folder if isinstance(target, NewLayout) else None


def named(place: Place, digest: str) -> str:
    """Return the name under which the gate's engine judges an image there."""
    return f"{place.name}@{digest}"


def check(place: Place) -> None:
    """Raise ``UsageError`` for an archive that is there already, or whose folder is not: before anything is read."""
    if place.kind != "archive" or place.path is None:
        return
    if place.path.exists():
        raise UsageError("is there already", where=str(place.path), do="remove it, or name another file")
    if not place.path.parent.is_dir():
        raise UsageError("no such folder", where=str(place.path.parent), do="make it")


@contextmanager
def _archive(path: Path) -> Iterator[Path]:
    from countersign.oci.files import pack

    try:
        work = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    except OSError as err:
        raise UsageError(f"cannot be written: {err.strerror}", where=str(path.parent), do="name another file") from err
    try:
        yield work / "layout"
        packed = work / "archive"
        with packed.open("xb") as file:
            pack(work / "layout", file)
            file.flush()
            os.fsync(file.fileno())
        packed.rename(path)
    finally:
        shutil.rmtree(work)
