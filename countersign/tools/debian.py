"""Programs from Debian's archive: one package, held against its pinned hash and unpacked, never installed."""

from __future__ import annotations

import hashlib
import platform
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from countersign.console.errors import InfrastructureError, MissingError
from countersign.tools.recipes import Recipe

MIRROR = "http://deb.debian.org/debian"
"""Plain HTTP, as Debian has it: what counts is the hash."""
_MACHINES = {"x86_64": "amd64"}
_LIMIT = 64 << 20  # bytes
_SECONDS = 60


def unpack(recipe: Recipe, into: Path, run: Callable[[Sequence[str | Path], Path], None]) -> None:
    """Fetch a recipe's package and unpack it.

    Args:
        recipe: its ``deb`` is the package's path in the pool, its ``hashes`` those of the good files.
        into: an empty folder.

    Raises:
        MissingError: nothing of Debian's can be unpacked here.
        InfrastructureError: the archive has no such file any more, or another one.
    """
    machine = _MACHINES.get(platform.machine(), "")
    if not machine or shutil.which("dpkg-deb") is None:
        raise MissingError(
            f"{recipe.title} is taken from Debian, for amd64 and with dpkg-deb", do=f"put {recipe.name} on PATH"
        )
    url = f"{MIRROR}/pool/main/{recipe.deb}_{machine}.deb"
    content = _fetch(url)
    found = hashlib.sha256(content).hexdigest()
    if found not in recipe.hashes:
        raise InfrastructureError(f"its SHA-256 is {found}", where=url, expected=" or ".join(recipe.hashes))
    with tempfile.NamedTemporaryFile(suffix=".deb") as package:
        package.write(content)
        package.flush()
        run(["dpkg-deb", "-x", package.name, into], into)


def _fetch(url: str) -> bytes:
    import urllib3
    from urllib3.exceptions import HTTPError

    try:
        answer = urllib3.request("GET", url, timeout=_SECONDS, retries=2, preload_content=False)
        content = answer.read(_LIMIT)
    except HTTPError as err:
        raise InfrastructureError(f"cannot be fetched: {err}", where=url, do="repeat with a network") from err
    if answer.status != 200:  # noqa: PLR2004  OK
        raise InfrastructureError(
            f"HTTP {answer.status}", where=url, do="put the program on PATH, or pin a newer version"
        )
    return bytes(content)
