"""Is a containerd enforcing, now? Each place is looked at as its set-up proved it, without starting anything."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from containerd.machine import CONFIG, Machine
from countersign.enforcement import doctor, inspection, record
from countersign.enforcement.node_units import CONTAINERD, GATE
from countersign.enforcement.problem import Problem
from countersign.nodes.service import Service
from countersign.nodes.steps import Running
from countersign.nodes.systemd import UnitRuns, unit_state

if TYPE_CHECKING:
    from containerd.instance import Instance
    from countersign.nodes.node import Node

OLDER = "started before its configuration or a base spec was last changed"
RESTARTED = "a start by what lies there now"


def of_machine(machine: Machine) -> list[Problem]:
    """Return everything by which a node with a containerd under systemd does not enforce."""
    node = machine.node

    def look() -> Iterable[Problem]:
        config = config_of(node, unit_state(node, CONTAINERD).main_pid)
        laid = record.read(record.beside(machine.pins), node.name) or {}
        specs = [path for path in laid if path.startswith(f"{machine.layout.etc}/base-")]
        if UnitRuns(CONTAINERD, (config, *specs), enable=False).needed(node):
            yield Problem(CONTAINERD, f"down, or {OLDER}", RESTARTED)
        yield from doctor.look(node, machine.layout, ["containerd", "--config", config], log_of(node))

    gate = unit_state(node, GATE).main_pid
    return inspection.findings(node, machine.layout, machine.pins, gate, look)


def of_instance(instance: Instance) -> list[Problem]:
    """Return everything by which the private containerd of this host does not enforce."""
    node, states = instance.node, {each.name: each for each in instance.states()}

    def look() -> Iterable[Problem]:
        spec = instance.run / "containerd.json"
        if states["containerd"].child and spec.is_file():
            service = Service.from_json(spec.read_text(encoding="utf-8"))
            if Running(service).needed(node):
                yield Problem("containerd", OLDER, RESTARTED)
        argv = [instance.program("containerd"), "--config", instance.config]
        yield from doctor.look(node, instance.layout, argv, instance.log_since_start())

    gate = states["gate"].child
    return inspection.findings(node, instance.layout, instance.pins, gate.pid if gate else 0, look)


def config_of(node: Node, pid: int) -> str:
    """Return the configuration that a running containerd was started with; without one, the usual path."""
    found = node.run(["cat", f"/proc/{pid}/cmdline"], check=False) if pid else None
    argv = found.stdout.decode(errors="replace").split("\0") if found and not found.code else []
    return config_in(argv)


def config_in(argv: Sequence[str]) -> str:
    """Return what ``--config`` of a command line of containerd names."""
    for at, word in enumerate(argv):
        name, equals, value = word.partition("=")
        if name in {"-c", "--config", "-config"}:
            return value if equals else "".join(argv[at + 1 : at + 2])
    return CONFIG


def log_of(node: Node) -> str:
    """Return what a containerd under systemd wrote since its last start, as far as the last 2,000 lines have it."""
    log = node.run(["journalctl", f"--unit={CONTAINERD}", "--output=cat", "--lines=2000", "--no-pager"]).text
    return log[max(log.rfind("starting containerd"), 0) :]
