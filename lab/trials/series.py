"""Trials of one kind on one place, as all of them are run, shown and written (`lab.trials.runner`)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from countersign.enforcement.runtime import Runtime
from lab.trials.rows import Outcome, Row

if TYPE_CHECKING:
    from lab.trials.differences import Differences, Engine


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
