"""The files of an image layout, in a folder or in a tar archive of one: hostile until read within bounds.

An archive is read where it lies: nothing of it is unpacked, so no name in it leads anywhere.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from countersign.console.errors import UsageError

MAX_FILES = 20_000
_CHUNK = 1 << 20
_PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5": "zstd", b"BZ": "bzip2", b"\xfd7": "xz"}


class Files(Protocol):
    """The files of a layout, by their paths in it."""

    @property
    def where(self) -> str:
        """What the layout is called in messages."""

    def sizes(self) -> dict[str, int]:
        """Return the name and size of every blob file, at most 20,000."""

    def size(self, name: str) -> int | None:
        """Return a file's size, or None if there is none."""

    def chunks(self, name: str) -> Iterator[bytes]:
        """Return a file's content, piece by piece."""


class Folder:
    """A layout in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def where(self) -> str:
        """The folder."""
        return str(self._folder)

    def sizes(self) -> dict[str, int]:
        """Return the name and size of every blob file."""
        found: dict[str, int] = {}
        blobs = self._folder / "blobs" / "sha256"
        if not blobs.is_dir():
            return found
        with os.scandir(blobs) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False):
                    found[f"blobs/sha256/{entry.name}"] = entry.stat(follow_symlinks=False).st_size
                if len(found) > MAX_FILES:
                    raise _too_many(self.where)
        return found

    def size(self, name: str) -> int | None:
        """Return a file's size; a link or a pipe is none."""
        try:
            found = (self._folder / name).lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def chunks(self, name: str) -> Iterator[bytes]:
        """Return a file's content."""
        with (self._folder / name).open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk


class Archive:
    """A layout in a tar archive that is not compressed.

    Raises:
        UsageError: it cannot be read, is compressed, cut off, or has too many files.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._members = _members(path)

    @property
    def where(self) -> str:
        """The archive."""
        return str(self._path)

    def sizes(self) -> dict[str, int]:
        """Return the name and size of every blob file."""
        return {name: size for name, (_, size) in self._members.items() if name.startswith("blobs/sha256/")}

    def size(self, name: str) -> int | None:
        """Return a file's size."""
        found = self._members.get(name)
        return found[1] if found else None

    def chunks(self, name: str) -> Iterator[bytes]:
        """Return a file's content."""
        at, left = self._members[name]
        with self._path.open("rb") as file:
            file.seek(at)
            while left and (chunk := file.read(min(_CHUNK, left))):
                left -= len(chunk)
                yield chunk


def pack(folder: Path, into: BinaryIO) -> None:
    """Write a layout's folder as an archive that is the same for the same content; index.json comes first."""
    blobs = sorted(path.relative_to(folder).as_posix() for path in (folder / "blobs" / "sha256").iterdir())
    with tarfile.open(fileobj=into, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in ("oci-layout", "index.json", *blobs):
            entry = tarfile.TarInfo(name)
            entry.size = (folder / name).stat().st_size
            with (folder / name).open("rb") as file:
                archive.addfile(entry, file)


def _members(path: Path) -> dict[str, tuple[int, int]]:
    """Return where each regular file of an archive begins, and its size."""
    found: dict[str, tuple[int, int]] = {}
    try:
        with path.open("rb") as file:
            packed = _PACKED.get(file.read(2))
            if packed:
                raise UsageError(f"is compressed with {packed}", where=str(path), do="unpack it to a plain .tar first")
            file.seek(0)
            end = os.fstat(file.fileno()).st_size
            with tarfile.open(fileobj=cast("BinaryIO", file), mode="r:") as archive:
                for count, member in enumerate(archive):
                    if count > MAX_FILES:
                        raise _too_many(str(path))
                    if member.offset_data + (member.size if member.isreg() else 0) > end:
                        raise tarfile.ReadError("unexpected end of data")
                    if member.isreg() and not member.issparse():
                        found[member.name.removeprefix("./")] = (member.offset_data, member.size)
                if not _ends(file, archive.offset):
                    raise tarfile.ReadError("it has no end")
    except OSError as err:
        raise UsageError(f"cannot be read: {err.strerror}", where=str(path)) from err
    except (tarfile.TarError, ValueError, EOFError) as err:
        do = "copy it again, whole"
        raise UsageError(f"is cut off or no tar archive ({err})", where=str(path), do=do) from err
    return found


def _ends(file: BinaryIO, at: int) -> bool:
    """Return whether an archive's mark of its end is there; one that was cut between two files looks whole else."""
    file.seek(at)
    return file.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)


def _too_many(where: str) -> UsageError:
    return UsageError("too many files", where=where, expected=f"at most {MAX_FILES}")
