"""A runtime under systemd on a node that is its user's: a machine over SSH, a node of a cluster."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countersign.console.errors import MissingError
from countersign.enforcement import node_units
from countersign.enforcement.node_units import GATE
from countersign.nodes.facts import CAP_SYS_RESOURCE, has_capability
from countersign.runtimes.keeping import BySystemd
from countersign.runtimes.machine import Machine

if TYPE_CHECKING:
    from typing_extensions import Self

    from countersign.console.config import Settings
    from countersign.console.steps import Step
    from countersign.enforcement.additions import Addition
    from countersign.enforcement.node_files import Written
    from countersign.nodes.node import Node
    from countersign.nodes.steps import Group


@dataclass(frozen=True)
class Taken:
    """What a node itself needs, taken before enforcement.

    Attributes:
        pins: its images, by digest.
        more: what its runtime has to know as well at every set-up, as JSON.
    """

    pins: Sequence[str]
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SystemdMachine(Machine):
    """See `Machine`."""

    # What each runtime has to say for itself.

    @classmethod
    @abstractmethod
    def as_set_up(cls, settings: Settings, node: Node, addition: Addition, pins: Path) -> Self:
        """Return a node with systemd to be looked at only: nothing is asked of a runtime that may be down."""

    @abstractmethod
    def inspected(self) -> Self:
        """Return it with all that set-up has to know of it.

        Raises:
            MissingError: it is not there, too old, or lacks what no pod could start without.
            InfrastructureError: it cannot be asked.
        """

    @abstractmethod
    def take(self) -> Taken:
        """Return what the node itself needs. Raises MissingError where its sandbox image cannot be pinned."""

    @abstractmethod
    def knowing(self, taken: Taken) -> Self:
        """Return it with what was taken at the first set-up."""

    @abstractmethod
    def restored(self, names: Sequence[str]) -> Step:
        """Return the step after which it runs as before set-up, and nothing of ours is left.

        Args:
            names: of registries that the node may have been led to.
        """

    @abstractmethod
    def taken_off(self, names: Sequence[str]) -> list[Step]:
        """Return all steps that take us off the node, `restored` among them; no image of those registries stays."""

    def placed(self) -> Self:
        """Return it with the paths that it has been given itself; a runtime that is down is not a hindrance."""
        return self

    def warnings(self) -> list[str]:
        """Return a line for each of its known holes."""
        return []

    # What all of them do.

    @property
    def keeper(self) -> BySystemd:
        """What keeps it and its gate running."""
        return BySystemd(self.node, self.layout, {self.room: self.unit, "gate": GATE}, self.addition, self.setup())

    def gate_unit(self) -> Group:
        """Return the step by which the gate runs as a unit."""
        return node_units.gate_unit(self.node, self.layout, lacks_resource=self.lacks_resource)

    def remembered(self, written: Written) -> list[Step]:
        """See `Machine.remembered`: the gate's unit, too."""
        return [*super().remembered(written), self.gate_unit()]

    @property
    def lacks_resource(self) -> bool:
        """Whether no unit there can lower its OOM score (CAP_SYS_RESOURCE)."""
        return not has_capability(self.node, CAP_SYS_RESOURCE)

    def require_pods(self) -> None:
        """Raise MissingError on a node on which no pod could start, with us or without."""
        with self.client(timeout=10) as client:
            why = client.conditions().get("NetworkReady", "")
        if why:
            raise MissingError(
                f"{self.title} has no network for pods ({why})",
                where=self.node.name,
                do="install CNI plugins in /opt/cni/bin and a configuration in /etc/cni/net.d there",
            )
