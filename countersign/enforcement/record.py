"""What set-up put on each node, as this machine remembers it: a file that was replaced later is told apart."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from countersign.enforcement.problem import Problem
from countersign.nodes.files import Seen, stats
from countersign.nodes.steps import File, Group, Link

if TYPE_CHECKING:
    from countersign.console.steps import Step
    from countersign.nodes.node import Node

VERSION = "countersign.laid/v1"
SECRET = 0o600
"""Files of this mode are left out: credentials change without a change to what is enforced."""


@runtime_checkable
class LaysOut(Protocol):
    """A step that stands for files, known once it was applied."""

    def laid_out(self) -> Sequence[Step]:
        """Return the steps that it stands for."""


@dataclass(frozen=True)
class Laid:
    """What set-up put at one path; see `countersign.nodes.files.Seen`."""

    kind: str
    mode: int
    target: str = ""
    sha256: str = ""

    def differs(self, seen: Seen) -> bool:
        """Return whether something else lies there; a link has no mode of its own."""
        if self.kind == "l":
            return (seen.kind, seen.target) != ("l", self.target)
        return (seen.kind, seen.mode, seen.sha256) != (self.kind, self.mode, self.sha256)


def beside(pins: Path) -> Path:
    """Return the record's file of a place that keeps its pins in this one."""
    return pins.with_name(f"{pins.stem}-laid.json")


def keep(path: Path, lists: Mapping[str, Iterable[Step]]) -> None:
    """Remember what steps put on nodes, after they were applied.

    Args:
        path: the record's file on this machine.
        lists: node name → the steps whose files and links are to stay as they are.
    """
    found = {
        name: {path: asdict(laid) for path, laid in _laid(steps) if laid.mode != SECRET}
        for name, steps in lists.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, {"version": VERSION, "nodes": found})


def _write(path: Path, document: Mapping[str, object]) -> None:
    text = json.dumps(document, indent=2, sort_keys=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(f"{text}\n", encoding="utf-8")
    fresh.replace(path)


def amend(path: Path, node: str, changed: Iterable[Step]) -> None:
    """Remember what steps have put on one node since; where nothing is kept about the node, nothing is."""
    laid = read(path, node)
    if laid is None:
        return
    document = json.loads(path.read_text(encoding="utf-8"))
    document["nodes"][node].update({each: asdict(found) for each, found in _laid(changed) if found.mode != SECRET})
    _write(path, document)


def read(path: Path, node: str) -> Mapping[str, Laid] | None:
    """Return path → what set-up put there on a node, or None when nothing readable was kept about it."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        found = document["nodes"][node]
        return {str(each): Laid(**laid) for each, laid in found.items()} if document["version"] == VERSION else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def problems(node: Node, laid: Mapping[str, Laid] | None, program: str) -> Iterator[Problem]:
    """Yield a problem when nothing is known of a node, or ``program`` is not the one that set-up put there.

    It is the gate's program, whose doctor compares the rest: its word counts when it is ours.
    """
    if not laid:
        yield Problem("what set-up put there", "not known on this machine", "a record of it, which set-up keeps")
        return
    wanted = laid.get(program)
    there = stats(node, [program]).get(program)
    if wanted is None or (there is not None and not wanted.differs(there)):
        return
    found = _shown(Laid(there.kind, there.mode, there.target, there.sha256)) if there else "missing"
    yield Problem(program, found, _shown(wanted))


def _laid(steps: Iterable[Step]) -> Iterator[tuple[str, Laid]]:
    for step in steps:
        if isinstance(step, Group):
            yield from _laid(step.parts)
        elif isinstance(step, LaysOut):
            yield from _laid(step.laid_out())
        elif isinstance(step, File):
            yield step.path, Laid("f", step.mode, sha256=step.digest())
        elif isinstance(step, Link):
            yield step.path, Laid("l", 0, target=step.target)


def _shown(laid: Laid) -> str:
    if laid.kind == "l":
        return f"a link to {laid.target}"
    return f"sha256:{laid.sha256} with mode {laid.mode:o}" if laid.kind == "f" else "no file"
