"""What every trial has: a row that says what must come out, what was found, and the rows of one kind as a series."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from countersign.enforcement.runtime import Runtime

if TYPE_CHECKING:
    from lab.trials.differences import Differences, Engine

REASON_CODES = Path(__file__).resolve().parents[2] / "shared" / "reason-codes.json"
OK = "OK"

Layer = Literal["admission", "pull", "create"]
By = Literal["", "gate", "own", "runtime"]
"""Who refuses: the gate, CRI-O's own engine, or the runtime because the gate or its hook is not there."""


@cache
def reason_codes() -> dict[str, bool]:
    """Return the closed list: reason code -> whether it allows."""
    return {row["code"]: row["allow"] for row in json.loads(REASON_CODES.read_text())}


class Row(ABC):
    """One trial: what is tried, and what must come out. Each kind of trial has a dataclass of its own.

    Attributes:
        way: how it comes to the node or into the cluster, or what is done.
        code: the reason code that must come out.
        layer: the layer that must decide.
        by: who must refuse; empty where that is not looked at, or nobody does.
    """

    image: str
    way: str
    code: str
    layer: Layer
    by: By = ""

    @property
    @abstractmethod
    def id(self) -> str:
        """Its name on the command line."""

    @property
    def allow(self) -> bool:
        """Whether its code lets the container run."""
        return reason_codes()[self.code]

    @property
    def shown(self) -> tuple[str, str]:
        """The image and the way as a table shows them."""
        return self.image, self.way

    @property
    def details(self) -> Mapping[str, str]:
        """What the document says of it beside that."""
        return {}


@dataclass(frozen=True)
class Found:
    """What came of a trial.

    Attributes:
        allow: the container ran, or the pod was admitted.
        layer: the layer that refused, or ``create`` for a container that ran.
        code: the reason code; empty where none is known.
        message: of the refusal, as the runtime gave it.
        by: who refused; empty where that is not looked at, or nobody did.
        millis: wall time of the deciding call, milliseconds.
        gate_millis: time in the gate, by its log, milliseconds.
        container: the container's ID, empty when there is none.
    """

    allow: bool
    layer: Layer = "create"
    code: str = ""
    message: str = ""
    by: By = ""
    millis: float | None = None
    gate_millis: float | None = None
    container: str = ""
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """A row and what came of it.

    Attributes:
        differences: one sentence for each thing that is not as the row says; empty is good.
        excused: why what is not as the row says is right nevertheless (``differences.yaml``).
    """

    row: Row
    found: Found
    differences: tuple[str, ...] = ()
    excused: str = ""


def compare(row: Row, found: Found, more: Sequence[str] = ()) -> Outcome:
    """Hold what came out against its row; ``more`` are differences that only this kind of trial knows."""
    differences = []
    if found.allow != row.allow:
        differences.append("it ran" if found.allow else f"it was refused: {found.message}")
    else:
        if found.code != row.code:
            differences.append(f"code {found.code or '?'}, expected {row.code}")
        if found.layer != row.layer:
            differences.append(f"{found.layer} decided, expected {row.layer}")
        if row.by and found.by != row.by:
            differences.append(f"refused by {found.by or '?'}, expected {row.by}")
    return Outcome(row, found, (*differences, *more))


@dataclass(frozen=True)
class Series:
    """Trials of one kind on one place.

    Attributes:
        kind: such as ``matrix``; names the document.
        runtime: ``containerd`` or ``crio``.
        node: where, as tables show it.
        attempt: tries rows and yields the outcomes as they come, in any order; puts everything right when closed.
        command: the task that tries them.
        by_name: whether that task tries a row by its name (``--only``), or all of them only.
        sample: those of some rows that a run takes that names none; all of them unless said otherwise.
        why_not: why a row cannot be tried there; an empty text for one that can.
        at: the runtime whose logs and configuration are kept when a row comes out otherwise.
        known: reviewed differences, and whose they are: each must be needed by a run of its image.
    """

    kind: str
    runtime: str
    node: str
    rows: Sequence[Row] = field(repr=False)
    attempt: Callable[[Sequence[Any]], Generator[Outcome, None, None]] = field(repr=False)
    command: str
    by_name: bool = True
    sample: Callable[[Sequence[Any]], Sequence[Any]] = field(default=lambda rows: rows, repr=False)
    why_not: Callable[[Any], str] = field(default=lambda _: "", repr=False)
    at: Runtime | None = field(default=None, repr=False)
    known: tuple[Differences, Engine] | None = field(default=None, repr=False)

    def repeat(self, rows: Sequence[Row]) -> str:
        """Return the command that tries some rows again."""
        return " ".join([self.command, *(f"--only {row.id}" for row in rows if self.by_name)])
