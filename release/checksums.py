"""``SHA256SUMS`` over everything that is published, and a signature over that and over each file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from countersign.console.errors import UsageError
from release.made import BUNDLE, FILE_NAME, SUMS, Folder, Release, sha256, write

if TYPE_CHECKING:
    from release.signer import Signer

_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")
_MOST = 10_000


def write_sums(release: Release, folder: Folder, signer: Signer) -> list[str]:
    """Write the release's document, a signature for each file, and the sums over all; return what was written."""
    write(folder.file(release.manifest), release.encoded())
    written = [release.manifest]
    for name in [*(each.name for each in release.files), release.manifest]:
        write(folder.file(name + BUNDLE), signer.file(folder.file(name).read_bytes()) + b"\n")
        written.append(name + BUNDLE)
    names = sorted(each.name for each in folder.files.iterdir() if not each.name.startswith((".", SUMS)))
    sums = "".join(f"{sha256(folder.file(name))}  {name}\n" for name in names).encode()
    write(folder.file(SUMS), sums)
    write(folder.file(SUMS + BUNDLE), signer.file(sums) + b"\n")
    return [*written, SUMS, SUMS + BUNDLE]


def parse(content: bytes, where: str) -> Mapping[str, str]:
    """Return name → SHA-256 of a SHA256SUMS file; names are checked, so that they lead nowhere else.

    Raises:
        UsageError: a line is none, or a name stands there twice.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
        match = _LINE.fullmatch(line)
        if not match or not FILE_NAME.fullmatch(match[2]) or match[2] in found or number > _MOST:
            raise UsageError(
                f"line {number} cannot be read", where=where, expected="SHA-256, two blanks, a file's name"
            )
        found[match[2]] = match[1]
    return found
