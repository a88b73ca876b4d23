"""How CRI-O is at a place, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from countersign.enforcement import gate, inspection, policy, record
from countersign.enforcement.report import document as runtimes

if TYPE_CHECKING:
    from countersign.console.config import Settings
    from countersign.console.steps import Step
    from countersign.enforcement.problem import Problem
    from crio.enforce import Work
    from crio.machine import Machine

VERSION = "countersign.crio-status/v1"


def document(settings: Settings, place: str, machines: Sequence[Machine]) -> dict[str, Any]:
    """Return the document of ``crio.status --json``; see `countersign.enforcement.report.document`.

    Args:
        settings: the user's.
        place: as ``--on`` names it.
        machines: one a node.
    """
    services = [each for machine in machines for each in machine.ways.services(machine)]
    problems = {machine.node.name: findings(machine) for machine in machines}
    return runtimes(place, settings.state, services, machines, problems, "crio", version=VERSION)


def findings(machine: Machine) -> list[Problem]:
    """Return everything by which a node does not enforce: its settings, replaced files, a policy not in force."""
    return inspection.findings(machine.node, machine.layout, machine.pins, machine.paths.socket)


def remember(work: Work, parts: gate.Gate, *units: Step) -> None:
    """Keep a record of what was put on a node, after it was.

    Args:
        work: what it was given.
        parts: the gate's.
        units: the steps of the gate's unit, where systemd runs it.
    """
    from crio.enforce import hook_file, native_policy

    machine = work.machine
    rendered = policy.Policy(machine.node, machine.layout, work.policy, tuple(work.pins)).as_laid()
    steps = [*gate.steps(parts), rendered, native_policy(work), hook_file(machine), *units]
    record.keep(record.beside(machine.pins), {machine.node.name: steps})
