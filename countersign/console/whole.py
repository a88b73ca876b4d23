"""Files that a user names, written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Put a whole file in place at once.

    What a link leads to is replaced, not the link. Into a device or a pipe, such as ``/dev/stdout``, it is written:
    for root it could be replaced like any other file.

    Raises:
        OSError: it cannot be written; what was there stays.
    """
    if path.exists() and not path.is_file():
        with path.open("wb") as there:
            there.write(content)
        return
    place = path.resolve()
    handle, name = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, mode)
            file.write(content)
            file.flush()
            os.fsync(handle)
        os.replace(name, place)  # noqa: PTH105  mkstemp gives a string
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
