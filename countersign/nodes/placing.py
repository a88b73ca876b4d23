"""Files put on a machine that takes a stream: one archive under temporary names, then their own names."""

from __future__ import annotations

import io
import re
import secrets
import tarfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from countersign.console.errors import InfrastructureError
from countersign.nodes.files import Content, stats
from countersign.nodes.node import CommandError

if TYPE_CHECKING:
    from countersign.nodes.node import Node

SCRIPT = Path(__file__).with_name("place.sh")
TIMEOUT = 300.0
FULL = re.compile(rb"No space left on device|Wrote only \d+ of|Disk quota exceeded")


def place(node: Node, files: Sequence[Content]) -> None:
    """Put files on a node in one command, each of them atomically; see `countersign.nodes.files.TakesMany.put_all`.

    Args:
        node: it has GNU tar and coreutils.
        files: what to put there.

    Raises:
        InfrastructureError: the node's disk is full, a folder is missing; no temporary file stays.
    """
    if not files:
        return
    mark = secrets.token_hex(4)
    names = [temporary(file.path, mark) for file in files]
    triples = [part for file, name in zip(files, names, strict=True) for part in (name, file.path, file.owner)]
    script = ["sh", "-c", SCRIPT.read_text(encoding="utf-8"), "place", *triples]
    try:
        node.run(script, input=archive(files, names), timeout=TIMEOUT)
    except CommandError as error:
        _forget(node, names)
        raise _explained(node, files, error) from None
    except BaseException:
        _forget(node, names)
        raise


def put_one(node: Node, wanted: Content) -> bool:
    """Put one file with `place` unless the node has it as it is wanted; return whether it had not."""
    before = stats(node, [wanted.path]).get(wanted.path)
    same = before is not None and (before.kind, before.mode, before.sha256) == ("f", wanted.mode, wanted.digest())
    if same and (not wanted.owner or _owned(node, wanted)):
        return False
    place(node, [wanted])
    return True


def temporary(path: str, mark: str) -> str:
    """Return the name beside ``path`` under which a file is written; ``mark`` keeps writers apart."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/.{name}.{mark}"


def archive(files: Iterable[Content], names: Iterable[str]) -> bytes:
    """Return a tar archive of files under other names, relative to the root folder."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for file, name in zip(files, names, strict=True):
            content = file.content if isinstance(file.content, bytes) else file.content.read_bytes()
            entry = tarfile.TarInfo(name.lstrip("/"))
            entry.size, entry.mode, entry.mtime = len(content), file.mode, int(time.time())
            tar.addfile(entry, io.BytesIO(content))
    return made.getvalue()


def _owned(node: Node, wanted: Content) -> bool:
    there = node.run(["stat", "-c", "%U %G", "--", wanted.path]).text.split()
    user, _, group = wanted.owner.partition(":")
    return there[0] == user and group in ("", there[1])


def _forget(node: Node, names: Sequence[str]) -> None:
    """Remove temporary files that a killed script left; a node that is gone keeps the first error."""
    try:
        node.run(["rm", "-f", "--", *names], check=False, timeout=15)
    except InfrastructureError:
        return


def _explained(node: Node, files: Sequence[Content], error: CommandError) -> InfrastructureError:
    """Return an error in terms of the files, not of the script that was to place them."""
    stderr = error.result.stderr
    folders = ", ".join(dict.fromkeys(file.path.rpartition("/")[0] or "/" for file in files))
    if FULL.search(stderr):
        named = re.search(rb"^tar: (\S+)/\.\S+: ", stderr, re.MULTILINE)
        where = f"/{named[1].decode(errors='replace')}" if named else folders
        return InfrastructureError("the disk is full", where=f"{node.name}: {where}", do="make room there")
    why = stderr.decode(errors="replace").strip()[-300:] or error.found
    return InfrastructureError(f"files cannot be put there: {why}", where=f"{node.name}: {folders}")
