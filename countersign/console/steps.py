"""Set-up, repair and clean as lists of steps: there is no second way to change a node."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
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
        name: the step's name.
        changed: it was applied, or would be (in a plan).
        seconds: how long asking and applying took.
    """

    name: str
    changed: bool
    seconds: float


Show = Callable[[str], AbstractContextManager[object]]


def run_steps(
    steps: Iterable[Step],
    plan: bool = False,
    show: Show = output.progress,
) -> list[StepResult]:
    """Apply the steps that are needed, in order, and end with a line that counts the changes.

    Args:
        steps: each built for its node.
        plan: list what would be done and change nothing.
        show: opened around each change with the step's name.

    Raises:
        CountersignError: whatever a step raises; later steps are not tried.
    """
    results = [_plan(step) if plan else _run(step, show) for step in steps]
    changed = sum(result.changed for result in results)
    output.say(f"plan: {changed} to change, nothing was" if plan else f"{changed} changed")
    return results


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
