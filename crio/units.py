"""A CRI-O that systemd keeps running on some machine, with the usual paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from countersign.console.errors import UsageError
from countersign.enforcement.gate_unit import SYSTEMD
from countersign.enforcement.layout import SYSTEM
from countersign.enforcement.node_units import ACTIVE, GATE, KUBELET, Units, kubelet_paused
from countersign.enforcement.recovering import Recovering
from countersign.enforcement.report import ServiceState, of_unit
from countersign.nodes.systemd import unit_state
from crio.credentials import Credentials
from crio.machine import Machine, Ways
from crio.paths import INSTALLED

if TYPE_CHECKING:
    from countersign.enforcement.additions import Addition
    from countersign.nodes.node import Node
    from crio.effective import Effective
    from crio.render import Engine

CRIO = "crio.service"
LOGS = {"crio": CRIO, "gate": GATE, "kubelet": KUBELET}
SLICE, CGROUP = "countersign.slice", "/countersign"


def machine(
    state: Path,
    node: Node,
    found: Effective,
    addition: Addition,
    engine: Engine,
    pins: Path,
) -> Machine:
    """Return the CRI-O of a node as the verbs use it.

    Args:
        state: the state folder on this machine.
        node: where it runs.
        found: its configuration in effect.
        addition: what it is given beside enforcement.
        engine: how strict its own engine is.
        pins: the file on this machine with what set-up pinned.
    """
    return Machine(
        state=state,
        node=node,
        layout=SYSTEM,
        paths=INSTALLED,
        crio="crio",
        handlers=found.handlers,
        pins=pins,
        addition=addition,
        engine=engine,
        ways=Ways(
            controls=lambda each: Recovering(Units(node, addition.stopped, each.wait_until_it_answers, CRIO), each),
            services=services,
            undisturbed=lambda each: kubelet_paused(each.node),
            log=log,
        ),
        cgroup_parent=SLICE if found.systemd_cgroups else CGROUP,
    )


def services(machine: Machine) -> list[ServiceState]:
    """Return how gate and CRI-O are."""
    return [of_unit(machine.node, unit) for unit in (GATE, CRIO)]


def log(machine: Machine, name: str) -> bytes:
    """Return the end of a log. Raises UsageError when there is none of that name."""
    if name == "verdicts":
        return machine.node.run(["tail", "-n", "10000", machine.layout.verdicts]).stdout
    if name not in LOGS:
        raise UsageError(f"got {name!r}", where="--name", expected=", ".join((*LOGS, "verdicts")))
    return machine.node.run(["journalctl", f"--unit={LOGS[name]}", "--no-pager", "--lines=10000"]).stdout


@dataclass(frozen=True)
class Restored:
    """CRI-O runs as it did before, and nothing of ours is left on the node.

    Attributes:
        names: of registries that the node may have been led to.
        urls: of those that it was led to now, by name.
    """

    node: Node
    names: Sequence[str] = ()
    urls: Mapping[str, str] = field(default_factory=dict)
    name: str = "CRI-O is as it was"

    def _paths(self) -> list[str]:
        layout, paths = SYSTEM, INSTALLED
        certs = [f"{layout.certs}/{name}" for name in self.names]
        cas = [f"{paths.certs}/{url.partition('://')[2]}" for url in self.urls.values() if url.startswith("https:")]
        units = [f"{SYSTEMD}/{GATE}", f"{SYSTEMD}/{GATE}.d"]
        programs = [layout.gate, layout.hook, layout.verifier]
        folders = [layout.etc, layout.lib, layout.run, layout.log]
        demo = paths.demo_registries_d
        return [
            paths.drop_in,
            paths.registries_conf,
            paths.registries_d,
            demo,
            *programs,
            *units,
            *certs,
            *cas,
            *folders,
        ]

    def needed(self) -> bool:
        """Return whether anything of ours is there."""
        found = self.node.run(["ls", "-d", "--", *self._paths()], check=False)
        return bool(found.text) or (bool(self.urls) and Credentials(self.node, INSTALLED.auth, {}).needed())

    def apply(self) -> None:
        """Take CRI-O's configuration away first: without it CRI-O needs none of the rest."""
        running = unit_state(self.node, CRIO).active == ACTIVE
        self.node.run(["rm", "-f", "--", INSTALLED.drop_in])
        if running:
            self.node.run(["systemctl", "restart", CRIO], timeout=120)
        self.node.run(["systemctl", "disable", "--now", GATE], check=False)
        self.node.run(["rm", "-rf", "--", *self._paths()])
        if self.urls:  # else what is there is the user's own, a registry on the machine's loopback included
            Credentials(self.node, INSTALLED.auth, {}).apply()
        for folder in {path.rpartition("/")[0] for path in (INSTALLED.registries_conf, INSTALLED.registries_d)}:
            self.node.run(["rmdir", "--ignore-fail-on-non-empty", "--", folder], check=False)
        self.node.run(["systemctl", "daemon-reload"])
