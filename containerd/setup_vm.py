"""A machine with containerd: the Vagrant machine, which is made if there is none, or any other one over SSH.

What distributions have is too old (Debian 12: 1.6, Ubuntu 24.04: 1.7), so it is the one that is built here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from countersign.console.config import Settings
from countersign.console.steps import StepResult, run_steps
from countersign.enforcement.node_units import CONTAINERD, SYSTEMD
from countersign.nodes import facts
from countersign.nodes.steps import File, Folder, Group
from countersign.nodes.systemd import UnitRuns
from countersign.nodes.template import render
from machines.remote import brought_up

if TYPE_CHECKING:
    from countersign.console.steps import Step
    from countersign.nodes.node import Node

MADE = Path(__file__).resolve().parent / "made"
NETWORK = MADE.parent.parent / "countersign/cri" / "10-loopback.conflist"
PROGRAMS = {
    "containerd": "/usr/local/bin/containerd",
    "containerd-shim-runc-v2": "/usr/local/bin/containerd-shim-runc-v2",
    "ctr": "/usr/local/bin/ctr",
    "runc": "/usr/local/sbin/runc",
    "cni-loopback": "/opt/cni/bin/loopback",
}
"""Tool → where it goes."""
CONFIG = "/etc/containerd/config.toml"
FOLDERS = ("/opt/cni/bin", "/etc/cni/net.d", "/etc/containerd", "/var/lib/containerd")


def setup_vm(settings: Settings, *, plan: bool) -> list[StepResult]:
    """Bring the machine up and put containerd on it; a second time changes nothing, one that is there stays.

    Raises:
        UsageError: the place is not a machine.
        MissingError: this host cannot do it.
    """
    from countersign.tools.resolver import install

    node = brought_up(settings, plan=plan)
    return run_steps([Containerd(node, install(tuple(PROGRAMS), settings))], plan=plan) if node else []


@dataclass(frozen=True)
class Containerd:
    """The machine has a containerd that runs; one of its own is left as it is."""

    node: Node
    programs: Mapping[str, Path]
    name: str = "containerd runs"

    def needed(self) -> bool:
        """Return whether there is none, or ours does not run as we put it there."""
        theirs = self.node.exists("/usr/bin/containerd")
        return not theirs and any(part.needed() for part in self._parts())

    def apply(self) -> None:
        """Put it there."""
        for part in self._parts():
            if part.needed():
                part.apply()

    def _parts(self) -> list[Step]:
        binaries = [File(self.node, path, self.programs[tool], 0o755) for tool, path in PROGRAMS.items()]
        unit = File(self.node, f"{SYSTEMD}/{CONTAINERD}", (MADE / "containerd.service").read_bytes())
        network = File(
            self.node, f"/etc/cni/net.d/99-countersign-{NETWORK.name.partition('-')[2]}", NETWORK.read_bytes()
        )
        folders = [Folder(self.node, path) for path in FOLDERS]
        return [
            Group(self.node, "programs", [*folders, *binaries, unit, network]),
            Configured(self.node),
            UnitRuns(self.node, CONTAINERD, [*PROGRAMS.values()]),
        ]


@dataclass(frozen=True)
class Configured:
    """There is a configuration; what set-up made of it later stays."""

    node: Node
    name: str = "configuration of containerd"

    def needed(self) -> bool:
        """Return whether there is none."""
        return not self.node.exists(CONFIG)

    def apply(self) -> None:
        """Write one that fits the machine."""
        found = facts.gather(self.node, "/var/lib/containerd")
        config = render(
            MADE / "config.toml.j2",
            snapshotter=found.snapshotter,
            restrict_oom_score_adj=found.restrict_oom_score_adj,
        )
        self.node.put(config, CONFIG)
