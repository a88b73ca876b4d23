"""Steps that bring about a folder, a file, a link or a running service; see `console.steps.Step`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from nodes import service
from nodes.node import Node
from nodes.service import Service

if TYPE_CHECKING:
    from console.steps import Step

CHUNK = 1 << 20


@dataclass(frozen=True)
class Folder:
    """A folder with a mode; its parents are made as needed."""

    path: str
    mode: int = 0o755

    @property
    def name(self) -> str:
        """What users read."""
        return f"folder {self.path}"

    def needed(self, node: Node) -> bool:
        """Return whether it is missing or has another mode."""
        return _stat(node, self.path) != f"directory {self.mode:o}"

    def apply(self, node: Node) -> None:
        """Make it."""
        node.run(["install", "-d", "-m", f"{self.mode:o}", self.path])


@dataclass(frozen=True)
class File:
    """A file with this content and mode; secrets are given the mode 0600.

    Attributes:
        path: where, on the node.
        content: the bytes, or a local file that has them.
        mode: permission bits.
    """

    path: str
    content: bytes | Path = field(repr=False)
    mode: int = 0o644

    @property
    def name(self) -> str:
        """What users read."""
        return self.path

    def digest(self) -> str:
        """Return the sha256 of the content, in hex."""
        if isinstance(self.content, bytes):
            return hashlib.sha256(self.content).hexdigest()
        digest = hashlib.sha256()
        with self.content.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
        return digest.hexdigest()

    def needed(self, node: Node) -> bool:
        """Return whether the node's file is missing or differs."""
        if _stat(node, self.path) != f"regular file {self.mode:o}":
            return True
        found = node.run(["sha256sum", "--", self.path])
        return found.text.split()[0] != self.digest()

    def apply(self, node: Node) -> None:
        """Put it there."""
        node.put(self.content, self.path, self.mode)


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    path: str
    target: str

    @property
    def name(self) -> str:
        """What users read."""
        return f"{self.path} → {self.target}"

    def needed(self, node: Node) -> bool:
        """Return whether it is missing or leads elsewhere."""
        return node.run(["readlink", "--", self.path], check=False).text != self.target

    def apply(self, node: Node) -> None:
        """Make it, over whatever is there."""
        node.run(["ln", "-sfnT", "--", self.target, self.path])


@dataclass(frozen=True)
class Group:
    """Several steps that users read as one; those of its parts that are needed are applied, in order."""

    name: str
    parts: Sequence[Step[Node]]

    def needed(self, node: Node) -> bool:
        """Return whether any part is."""
        return any(part.needed(node) for part in self.parts)

    def apply(self, node: Node) -> None:
        """Apply the parts that are needed."""
        for part in self.parts:
            if part.needed(node):
                part.apply(node)


@dataclass(frozen=True)
class Running:
    """A supervised service of this machine that runs by this very specification."""

    service: Service

    @property
    def name(self) -> str:
        """What users read."""
        return f"{self.service.name} runs"

    def needed(self, node: Node) -> bool:  # noqa: ARG002 - supervision is this machine's
        """Return whether it is down, not ready, runs by another specification, or read other files than these."""
        found = service.state(Path(self.service.run), self.service.name)
        if found.state != "running" or found.digest != self.service.digest() or found.child is None:
            return True
        started = found.child.started()
        return any(_changed_after(path, started) for path in self.service.inputs if path.startswith("/"))

    def apply(self, node: Node) -> None:  # noqa: ARG002
        """Start it, after stopping the one that runs."""
        service.start(self.service)


def _changed_after(path: str, moment: float) -> bool:
    """Return whether a file was written later: a program that restarted meanwhile has read what it was before."""
    try:
        return Path(path).stat().st_mtime > moment
    except FileNotFoundError:
        return True


def _stat(node: Node, path: str) -> str:
    """Return type and mode in octal, such as ``directory 755``, or an empty text."""
    found = node.run(["stat", "-c", "%F %a", "--", path], check=False, env={"LC_ALL": "C"})
    return found.text.replace("regular empty file", "regular file")
