"""The same step on several nodes at once, which users read as one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from countersign.console.steps import Step
    from countersign.nodes.node import Node

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
        parts: the nodes, each with its step.
    """

    name: str
    parts: Sequence[tuple[Node, Step[Node]]] = field(repr=False)

    def needed(self, node: object) -> bool:  # noqa: ARG002 - it has nodes of its own
        """Return whether any node needs it."""
        return any(side_by_side(_needed, self.parts))

    def apply(self, node: object) -> None:  # noqa: ARG002
        """Apply it where it is needed."""
        side_by_side(_apply, self.parts)

    def diff(self, node: object) -> str:  # noqa: ARG002
        """See `countersign.console.steps.ShowsDiff`; one node after the other."""
        return "\n".join(filter(None, side_by_side(_diff, self.parts)))


def on_each(lists: Mapping[str, Sequence[Step[Node]]], nodes: Mapping[str, Node]) -> list[OnEach]:
    """Return one step for each place in equally long lists of steps.

    Args:
        lists: node name → its steps; the steps at one place bring about the same thing.
        nodes: node name → the node.
    """
    count = f" ({len(lists)} nodes)" if len(lists) > 1 else ""
    rows = zip(*lists.values(), strict=True)
    return [
        OnEach(f"{row[0].name}{count}", [(nodes[name], step) for name, step in zip(lists, row, strict=True)])
        for row in rows
    ]


def _needed(part: tuple[Node, Step[Node]]) -> bool:
    node, step = part
    return step.needed(node)


def _apply(part: tuple[Node, Step[Node]]) -> None:
    node, step = part
    if step.needed(node):
        step.apply(node)


def _diff(part: tuple[Node, Step[Node]]) -> str:
    from countersign.console.steps import ShowsDiff

    node, step = part
    return step.diff(node) if isinstance(step, ShowsDiff) and step.needed(node) else ""
