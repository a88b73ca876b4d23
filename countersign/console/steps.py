"""Set-up, repair and clean as lists of steps: there is no second way to change a node."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

from countersign.console import output
from countersign.console.errors import InfrastructureError

NodeT = TypeVar("NodeT")
NodeT_contra = TypeVar("NodeT_contra", contravariant=True)


class NotThereYet(InfrastructureError):
    """The node that was asked does not exist yet; a plan shows it, anything else fails."""


class Step(Protocol[NodeT_contra]):
    """One change of a node: it can tell whether it is needed, and make it."""

    @property
    def name(self) -> str:
        """What the step brings about, as shown to users."""

    def needed(self, node: NodeT_contra) -> bool:
        """Return whether the node lacks it; changes nothing."""

    def apply(self, node: NodeT_contra) -> None:
        """Make the change."""


@runtime_checkable
class ShowsDiff(Protocol[NodeT_contra]):
    """A step that can show, beside whether it is needed, what it would change."""

    def diff(self, node: NodeT_contra) -> str:
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
    node: NodeT,
    steps: Iterable[Step[NodeT]],
    plan: bool = False,
    show: Show = output.progress,
) -> list[StepResult]:
    """Apply the steps that are needed, in order, and end with a line that counts the changes.

    Args:
        node: whatever the steps work on.
        plan: list what would be done and change nothing.
        show: opened around each change with the step's name.

    Raises:
        CountersignError: whatever a step raises; later steps are not tried.
    """
    results = [_plan(node, step) if plan else _run(node, step, show) for step in steps]
    changed = sum(result.changed for result in results)
    output.say(f"plan: {changed} to change, nothing was" if plan else f"{changed} changed")
    return results


def _run(node: NodeT, step: Step[NodeT], show: Show) -> StepResult:
    start = time.monotonic()
    needed = step.needed(node)
    if needed:
        with show(step.name):
            step.apply(node)
    else:
        output.skipped(step.name)
    return StepResult(step.name, needed, time.monotonic() - start)


def _plan(node: NodeT, step: Step[NodeT]) -> StepResult:
    start = time.monotonic()
    try:
        needed, note = step.needed(node), ""
    except NotThereYet as missing:
        needed, note = True, f" ({missing})"
    output.say(f"{'would' if needed else 'holds'}: {step.name}{note}")
    if needed and not note and isinstance(step, ShowsDiff):
        for line in step.diff(node).splitlines():
            output.say(f"    {line}")
    return StepResult(step.name, needed, time.monotonic() - start)
