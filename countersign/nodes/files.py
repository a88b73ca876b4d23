"""What lies at many paths of a node, asked at once: on a node that is reached by exec or SSH every question costs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from countersign.nodes.node import Node

CHUNK = 1 << 20
AT_ONCE = 500
"""Paths in one command; the kernel bounds the length of its arguments (execve(2))."""


@dataclass(frozen=True)
class Seen:
    """What lies at a path; links are not followed.

    Attributes:
        kind: ``f`` file, ``d`` folder, ``l`` symbolic link, or another letter of find(1)'s ``%y``.
        mode: permission bits.
        target: where a link leads.
        sha256: of a file's content, in hex; empty when it could not be read.
    """

    kind: str
    mode: int
    target: str = ""
    sha256: str = ""


@dataclass(frozen=True)
class Content:
    """A file to be put on a node; see `countersign.nodes.node.Node.put`."""

    content: bytes | Path = field(repr=False)
    path: str
    mode: int = 0o644
    owner: str = ""

    def digest(self) -> str:
        """Return the sha256 of the content, in hex."""
        return sha256(self.content)


def sha256(content: bytes | Path) -> str:
    """Return the sha256 of bytes, or of a local file, in hex."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    digest = hashlib.sha256()
    with content.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@runtime_checkable
class TakesMany(Protocol):
    """A node that takes several files as fast as one."""

    def put_all(self, files: Sequence[Content]) -> None:
        """Put every file as `Node.put` does, each of them atomically, whether it differs or not."""


def stats(node: Node, paths: Iterable[str]) -> Mapping[str, Seen]:
    """Return path → what lies there, without those where nothing does; one command for all of them.

    Args:
        node: it has GNU find and sha256sum.
        paths: absolute.
    """
    wanted = list(dict.fromkeys(paths))
    found: dict[str, Seen] = {}
    for start in range(0, len(wanted), AT_ONCE):
        some = wanted[start : start + AT_ONCE]
        report = [
            "-maxdepth",
            "0",
            "-printf",
            r"%y %m %p\0%l\0",
            "-type",
            "f",
            "-exec",
            "sha256sum",
            "-z",
            "--",
            "{}",
            "+",
        ]
        # an exit code other than 0 means no more than that some paths are not there
        answer = node.run(["find", *some, *report], check=False, env={"LC_ALL": "C"})
        found |= _parse(answer.stdout.decode(errors="surrogateescape"))
    return found


def put_all(node: Node, files: Sequence[Content]) -> None:
    """Put files on a node, at once where it can take them so."""
    if isinstance(node, TakesMany):
        node.put_all(files)
        return
    for file in files:
        node.put(file.content, file.path, file.mode, file.owner)


def _parse(text: str) -> dict[str, Seen]:
    """Read the records of find (two fields each), after which those of sha256sum come (one each)."""
    found: dict[str, Seen] = {}
    fields = iter(text.split("\0")[:-1])
    for record in fields:
        if record[1:2] == " ":
            kind, mode, path = record.split(" ", 2)
            found[path] = Seen(kind, int(mode, 8), next(fields))
        else:
            digest, _, path = record.partition("  ")
            seen = found[path]
            found[path] = Seen(seen.kind, seen.mode, seen.target, digest)
    return found
