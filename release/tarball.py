"""An archive whose bytes depend on the files in it alone: all is root's, and of one time."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path


def pack(files: Mapping[str, Path], epoch: int) -> bytes:
    """Return a tar archive, compressed by gzip.

    Args:
        files: name in the archive → the file, in the order that they are to have.
        epoch: the time of each, in seconds.
    """
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, path in files.items():
            content = path.read_bytes()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime = len(content), 0o644, epoch
            archive.addfile(entry, io.BytesIO(content))
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, mtime=epoch, fileobj=packed) as stream:
        stream.write(raw.getvalue())
    return packed.getvalue()
