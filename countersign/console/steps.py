"""Set-up, repair and clean as lists of steps: there is no second way to change a node."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from countersign.console import output
from countersign.console.errors import InfrastructureError


class NotThereYet(InfrastructureError):
    """The node that was asked does not exist yet; a plan shows it, anything else fails."""


class Step(Protocol):
    """One change of one node, which the step was built with: it can tell whether it is needed, and make it."""

    @property
    def name(self) -> str:
        """What the step brings about, as shown to users."""

    def needed(self) -> bool:
        """Return whether its node lacks it; changes nothing."""

    def apply(self) -> None:
        """Make the change."""


@dataclass(frozen=True)
class Change:
    """A step that two functions make: one that tells whether it is needed, and one that makes the change."""

    name: str
    needed: Callable[[], bool] = field(repr=False)
    apply: Callable[[], None] = field(repr=False)


@runtime_checkable
class ShowsDiff(Protocol):
    """A step that can show, beside whether it is needed, what it would change."""

    def diff(self) -> str:
        """Return what would change, as lines for a plan; empty when there is nothing to show. Changes nothing.

        Secrets and programs are named and never shown.
        """


@dataclass(frozen=True)
class StepResult:
    """What came of a step.

    Attributes:
        changed: it was applied, or would be (in a plan).
        seconds: how long asking and applying took.
    """

    name: str
    changed: bool
    seconds: float


Show = Callable[[str], AbstractContextManager[object]]


@dataclass(frozen=True)
class Stage:
    """Steps that can be told once those of the stages before have been applied.

    Attributes:
        look: returns them; it may ask nodes, and changes none. Raises NotThereYet where what it asks is still to come.
        announced: what a plan says that will come, where it cannot be looked at yet.
    """

    look: Callable[[], Sequence[Step]]
    announced: Sequence[str] = ()


class Changes:
    """What steps did, or in a plan would do, counted over several lists of them."""

    def __init__(self, *, plan: bool = False, show: Show = output.progress) -> None:
        """Begin.

        Args:
            show: opened around each change with the step's name.
        """
        self._plan = plan
        self._show = show
        self._results: list[StepResult] = []
        self.begun = False
        """Whether a step was tried that may have changed something."""

    def make(self, steps: Iterable[Step]) -> None:
        """Apply the steps that are needed, in order, or list them.

        Raises:
            CountersignError: whatever a step raises; later steps are not tried.
        """
        for step in steps:
            self.begun = not self._plan
            self._results.append(_plan(step) if self._plan else _run(step, self._show))

    def through(self, stages: Iterable[Stage]) -> bool:
        """Go through stages, each looked at when its turn comes; return whether all of them could be told.

        A plan ends at the first one that is about something which is still to be made.

        Raises:
            CountersignError: as `make` does.
        """
        for stage in stages:
            try:
                steps = stage.look()
            except NotThereYet as missing:
                if not self._plan:
                    raise
                for name in stage.announced:
                    output.say(f"would: {name} ({missing})")
                self._results += [StepResult(name, changed=True, seconds=0.0) for name in stage.announced]
                return False
            self.make(steps)
        return True

    def end(self) -> list[StepResult]:
        """End with a line that counts the changes, and return what came of each step."""
        changed = sum(result.changed for result in self._results)
        output.say(f"plan: {changed} to change, nothing was" if self._plan else f"{changed} changed")
        return self._results


def run_steps(steps: Iterable[Step], plan: bool = False, show: Show = output.progress) -> list[StepResult]:
    """Apply the steps that are needed, in order, and end with a line that counts the changes.

    Args:
        show: opened around each change with the step's name.

    Raises:
        CountersignError: whatever a step raises; later steps are not tried.
    """
    changes = Changes(plan=plan, show=show)
    changes.make(steps)
    return changes.end()


def _run(step: Step, show: Show) -> StepResult:
    start = time.monotonic()
    needed = step.needed()
    if needed:
        with show(step.name):
            step.apply()
    else:
        output.skipped(step.name)
    return StepResult(step.name, needed, time.monotonic() - start)


def _plan(step: Step) -> StepResult:
    start = time.monotonic()
    try:
        needed, note = step.needed(), ""
    except NotThereYet as missing:
        needed, note = True, f" ({missing})"
    output.say(f"{'would' if needed else 'holds'}: {step.name}{note}")
    if needed and not note and isinstance(step, ShowsDiff):
        for line in step.diff().splitlines():
            output.say(f"    {line}")
    return StepResult(step.name, needed, time.monotonic() - start)
