"""The services of a node whose runtime and gate are systemd units."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from countersign.console.steps import Change
from countersign.nodes.steps import File, Folder, Group
from countersign.nodes.systemd import UnitRuns, unit_state
from countersign.nodes.waiting import wait_for

if TYPE_CHECKING:
    from countersign.enforcement.layout import Layout
    from countersign.nodes.node import Node

CONTAINERD = "containerd.service"
GATE = "countersign-gate.service"
KUBELET = "kubelet.service"
ACTIVE = "active"
UNIT_FILE = Path(__file__).resolve().parents[2] / "gate" / "internal" / "install" / "units" / GATE
"""The gate is built with it, for its install puts it in place as well."""
WITHOUT_RESOURCE = UNIT_FILE.with_name("without-sys-resource.conf")
SYSTEMD = "/etc/systemd/system"


@dataclass(frozen=True)
class Units:
    """See `countersign.enforcement.runtime.Controls`.

    Attributes:
        registry_stopped: keeps a registry of the demo stopped, by its name.
        answers: returns once the runtime answers over CRI, or raises.
    """

    node: Node
    registry_stopped: Callable[[str], AbstractContextManager[None]]
    answers: Callable[[], object]
    runtime: str = CONTAINERD

    @contextmanager
    def gate_stopped(self) -> Iterator[None]:
        """Stop the unit; systemd would start a killed one again too soon for a trial."""
        self._systemctl("stop", GATE)
        try:
            yield
        finally:
            self._systemctl("start", GATE)

    @contextmanager
    def gate_hung(self) -> Iterator[None]:
        """See `Controls.gate_hung`."""
        frozen = unit_state(self.node, GATE).main_pid
        self._systemctl("kill", "--signal=SIGSTOP", "--kill-whom=main", GATE)

        def replaced() -> bool:
            found = unit_state(self.node, GATE)
            return found.active == ACTIVE and found.main_pid not in (0, frozen)

        try:
            yield
        finally:
            wait_for(replaced, f"{GATE} on {self.node.name} did not come back by itself", pause=0.3)

    def gate_renewed(self, meanwhile: Callable[[], object]) -> None:
        """See `Controls.gate_renewed`."""
        with self.gate_stopped():
            meanwhile()

    def restart_runtime(self) -> None:
        """See `Controls.restart_runtime`."""
        # systemd starts a unit only so often in some seconds; trials restart it more often than that.
        self._systemctl("reset-failed", self.runtime)
        self._systemctl("restart", self.runtime)
        self.answers()

    def _systemctl(self, *arguments: str) -> None:
        self.node.run(["systemctl", *arguments])


@contextmanager
def kubelet_paused(node: Node) -> Iterator[None]:
    """Keep the kubelet of a node stopped, if one runs: it removes every pod that it does not know.

    Pods go on running; the node counts as lost only after the node monitor's grace period (40 s or more).
    """
    running = unit_state(node, KUBELET).active == ACTIVE
    if running:
        node.run(["systemctl", "stop", KUBELET])
    try:
        yield
    finally:
        if running:
            _start_kubelet(node)


def kubelet_runs(node: Node) -> Change:
    """Return the step by which the kubelet runs, where there is one: a killed trial may have left it stopped."""

    def needed() -> bool:
        found = unit_state(node, KUBELET)
        return found.enabled and found.active != ACTIVE

    return Change("kubelet runs", needed, lambda: _start_kubelet(node))


def _start_kubelet(node: Node) -> None:
    node.run(["systemctl", "start", KUBELET])


def gate_unit(node: Node, layout: Layout, *, lacks_resource: bool) -> Group:
    """Return the step that puts the unit on a node and makes it run.

    Args:
        node: the node.
        layout: where the gate's files are.
        lacks_resource: the machine lacks CAP_SYS_RESOURCE, so no unit of it can lower its OOM score.
    """
    units: list[Folder | File] = [
        Folder(node, f"{SYSTEMD}/{GATE}.d"),
        File(node, f"{SYSTEMD}/{GATE}", UNIT_FILE.read_bytes()),
    ]
    if lacks_resource:
        units.append(File(node, f"{SYSTEMD}/{GATE}.d/{WITHOUT_RESOURCE.name}", WITHOUT_RESOURCE.read_bytes()))
    read_by_gate = [layout.gate, layout.gate_config, *(unit.path for unit in units if isinstance(unit, File))]
    return Group(node, f"unit {GATE}", [*units, UnitRuns(node, GATE, read_by_gate, hands_over=True)])
