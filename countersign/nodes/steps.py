"""Steps that bring about a folder, a file, a link or a running service; see `countersign.console.steps.Step`."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from countersign.console.steps import ShowsDiff
from countersign.nodes import service
from countersign.nodes.diff import file_diff
from countersign.nodes.files import Content, Seen, put_all, sha256, stats
from countersign.nodes.node import CommandError, Node
from countersign.nodes.service import Service

if TYPE_CHECKING:
    from countersign.console.steps import Step


@runtime_checkable
class AtPath(Protocol):
    """A step that is about one path: whether it is needed shows from what lies there."""

    @property
    def path(self) -> str:
        """Absolute, on the node."""

    def differs(self, seen: Seen | None) -> bool:
        """Return whether what lies there (None: nothing) is not what the step brings about."""


@dataclass(frozen=True)
class Folder:
    """A folder with a mode; its parents are made as needed.

    Attributes:
        node: the node.
        path: where, on it.
        mode: permission bits.
        record: a file on the node with a line for each folder that was made there beside what is ours, for the day on
            which all is taken away again (`unmade`). With it, a folder that is there already keeps its mode.
    """

    node: Node
    path: str
    mode: int = 0o755
    record: str = ""

    @property
    def name(self) -> str:
        """What users read."""
        return f"folder {self.path}"

    def needed(self) -> bool:
        """Return whether it is missing or has another mode."""
        return _needed(self.node, self)

    def differs(self, seen: Seen | None) -> bool:
        """See `AtPath.differs`."""
        if self.record:
            return seen is None
        return seen is None or (seen.kind, seen.mode) != ("d", self.mode)

    def apply(self) -> None:
        """Make it."""
        if self.record:
            self.node.run(["sh", "-c", _MAKE, "sh", self.path, f"{self.mode:o}", self.record])
        else:
            try:
                self.node.run(["install", "-d", "-m", f"{self.mode:o}", self.path])
            except CommandError:
                # install(1) does not say why it can't, such as of a read-only file system; mkdir does
                self.node.run(["mkdir", "-p", "--", self.path])
                raise


_MAKE = """set -e
made= above=$1
until [ -e "$above" ] || [ -z "$above" ]; do
    made="$above
$made"
    above=${above%/*}
done
mkdir -p -- "${3%/*}"
printf %s "$made" >>"$3"
install -d -m "$2" -- "$1"
"""


def unmade(node: Node, record: str) -> list[str]:
    """Return the folders that were made on a node, by `Folder.record`, those below others first."""
    return node.run(["cat", "--", record], check=False).text.splitlines()[::-1]


@dataclass(frozen=True)
class File:
    """A file with this content and mode; secrets are given the mode 0600.

    Attributes:
        node: the node.
        path: where, on it.
        content: the bytes, or a local file that has them.
        mode: permission bits.
    """

    node: Node
    path: str
    content: bytes | Path = field(repr=False)
    mode: int = 0o644

    @property
    def name(self) -> str:
        """What users read."""
        return self.path

    def digest(self) -> str:
        """Return the sha256 of the content, in hex."""
        return sha256(self.content)

    def needed(self) -> bool:
        """Return whether the node's file is missing or differs."""
        return _needed(self.node, self)

    def differs(self, seen: Seen | None) -> bool:
        """See `AtPath.differs`."""
        return seen is None or (seen.kind, seen.mode, seen.sha256) != ("f", self.mode, self.digest())

    def apply(self) -> None:
        """Put it there."""
        self.node.put(self.content, self.path, self.mode)

    def diff(self) -> str:
        """See `countersign.console.steps.ShowsDiff`."""
        content = self.content if isinstance(self.content, bytes) else self.content.read_bytes()
        return file_diff(self.node, self.path, content, self.mode)


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    node: Node
    path: str
    target: str

    @property
    def name(self) -> str:
        """What users read."""
        return f"{self.path} → {self.target}"

    def needed(self) -> bool:
        """Return whether it is missing or leads elsewhere."""
        return _needed(self.node, self)

    def differs(self, seen: Seen | None) -> bool:
        """See `AtPath.differs`."""
        return seen is None or (seen.kind, seen.target) != ("l", self.target)

    def apply(self) -> None:
        """Make it, over whatever is there."""
        self.node.run(["ln", "-sfnT", "--", self.target, self.path])


@dataclass(frozen=True)
class Group:
    """Several steps that users read as one; those of its parts that are needed are applied, in order."""

    node: Node
    name: str
    parts: Sequence[Step]

    def needed(self) -> bool:
        """Return whether any part is."""
        seen = self._look()
        return any(_part_needed(part, seen) for part in self.parts)

    def apply(self) -> None:
        """Apply the parts that are needed; files beside one another go there at once."""
        seen = self._look()
        for are_files, run in itertools.groupby(self.parts, lambda part: isinstance(part, File)):
            wanted = [part for part in run if _part_needed(part, seen)]
            if are_files:
                files = [part for part in wanted if isinstance(part, File)]
                put_all(self.node, [Content(file.content, file.path, file.mode) for file in files])
            else:
                for part in wanted:
                    part.apply()

    def diff(self) -> str:
        """See `countersign.console.steps.ShowsDiff`: a part that has nothing to show is named."""
        seen = self._look()
        wanted = [part for part in self.parts if _part_needed(part, seen)]
        shown = (part.diff() if isinstance(part, ShowsDiff) else "" for part in wanted)
        return "\n".join(text or part.name for part, text in zip(wanted, shown, strict=True))

    def _look(self) -> Mapping[str, Seen]:
        """Return what lies at the paths of its parts, asked at once."""
        return stats(self.node, [part.path for part in self.parts if isinstance(part, AtPath)])


@dataclass(frozen=True)
class Running:
    """A supervised service of this machine that runs by this very specification."""

    service: Service

    @property
    def name(self) -> str:
        """What users read."""
        return f"{self.service.name} runs"

    def needed(self) -> bool:
        """Return whether it is down, not ready, runs by another specification, or read other files than these."""
        found = service.state(Path(self.service.run), self.service.name)
        if found.state != "running" or found.digest != self.service.digest() or found.child is None:
            return True
        started = found.child.started()
        return any(_changed_after(path, started) for path in self.service.inputs if path.startswith("/"))

    def apply(self) -> None:
        """Start it, after stopping the one that runs."""
        service.start(self.service)


def _changed_after(path: str, moment: float) -> bool:
    """Return whether a file was changed, or moved there, later: a program that restarted since has read the old one."""
    try:
        return Path(path).stat().st_ctime > moment
    except FileNotFoundError:
        return True


def _needed(node: Node, step: AtPath) -> bool:
    return step.differs(stats(node, [step.path]).get(step.path))


def _part_needed(part: Step, seen: Mapping[str, Seen]) -> bool:
    return part.differs(seen.get(part.path)) if isinstance(part, AtPath) else part.needed()
