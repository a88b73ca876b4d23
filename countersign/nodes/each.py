"""The same step on several nodes at once, which users read as one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from countersign.console.steps import Step

AT_ONCE = 8
Item = TypeVar("Item")
Answer = TypeVar("Answer")


def side_by_side(work: Callable[[Item], Answer], items: Iterable[Item]) -> list[Answer]:
    """Return what ``work`` returns for each item, in their order; all are tried, then the first error is raised."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        futures = [pool.submit(work, item) for item in items]
    return [future.result() for future in futures]


@dataclass(frozen=True)
class OnEach:
    """One step, made for each of several nodes, and applied to those that need it.

    Attributes:
        name: what users read.
        parts: one a node.
    """

    name: str
    parts: Sequence[Step] = field(repr=False)

    def needed(self) -> bool:
        """Return whether any node needs it."""
        return any(side_by_side(lambda part: part.needed(), self.parts))

    def apply(self) -> None:
        """Apply it where it is needed."""
        side_by_side(_apply, self.parts)

    def diff(self) -> str:
        """See `countersign.console.steps.ShowsDiff`; one node after the other."""
        return "\n".join(filter(None, side_by_side(_diff, self.parts)))


def on_each(lists: Mapping[str, Sequence[Step]]) -> list[OnEach]:
    """Return one step for each place in equally long lists of steps.

    Args:
        lists: node name → its steps; the steps at one place bring about the same thing.
    """
    count = f" ({len(lists)} nodes)" if len(lists) > 1 else ""
    return [OnEach(f"{row[0].name}{count}", row) for row in zip(*lists.values(), strict=True)]


def _apply(step: Step) -> None:
    if step.needed():
        step.apply()


def _diff(step: Step) -> str:
    from countersign.console.steps import ShowsDiff

    return step.diff() if isinstance(step, ShowsDiff) and step.needed() else ""
