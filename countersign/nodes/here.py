"""A step of this machine among those of another one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from countersign.nodes.host import HostNode

if TYPE_CHECKING:
    from countersign.console.steps import Step
    from countersign.nodes.node import Node


@dataclass(frozen=True)
class Here:
    """It works on this machine, whatever node it is given."""

    step: Step[Node]

    @property
    def name(self) -> str:
        """What users read."""
        return self.step.name

    def needed(self, node: object) -> bool:  # noqa: ARG002
        """Return whether this machine lacks it."""
        return self.step.needed(HostNode())

    def apply(self, node: object) -> None:  # noqa: ARG002
        """Make the change here."""
        self.step.apply(HostNode())
