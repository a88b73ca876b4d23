"""The lab's word on what each place is given; `tasks.py` offers it to the runtimes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from countersign.console.config import Settings
from countersign.enforcement.additions import NOTHING, Addition
from countersign.enforcement.layout import Layout
from countersign.nodes.node import Node
from countersign.runtimes.private import PrivateMachine
from lab.demo import kind_registry, registries
from lab.demo.cluster import ClusterDemo
from lab.demo.host import HostDemo
from lab.demo.remote import NAMES, remote_demo

if TYPE_CHECKING:
    MachineT = TypeVar("MachineT", bound=PrivateMachine)


@dataclass(frozen=True)
class Demo:
    """See `countersign.enforcement.additions.Lab`."""

    names: Sequence[str] = tuple(NAMES)

    def for_host(self, settings: Settings, layout: Layout, cgroup: str, root: Path) -> HostDemo:
        """See `Lab.for_host`."""
        return HostDemo(settings, registries.load_or_make(root / "registry"), layout, cgroup)

    def for_cluster(self, settings: Settings) -> ClusterDemo:
        """See `Lab.for_cluster`."""
        return ClusterDemo(settings, kind_registry.load_or_make(settings))

    def for_machine(self, settings: Settings, node: Node, room: str, *, asked: bool) -> Addition:
        """See `Lab.for_machine`."""
        found = remote_demo(settings, node, f"{room}-{node.name}")
        return found if asked or found.used() else NOTHING


DEMO = Demo()


def with_demo(settings: Settings, ours: MachineT) -> MachineT:
    """Return a private runtime of this host with the demo beside it."""
    return replace(ours, addition=DEMO.for_host(settings, ours.layout, ours.cgroup, ours.root))
