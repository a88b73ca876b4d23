"""Is a containerd enforcing, now? Each place is looked at as its set-up proved it, without starting anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from countersign.enforcement import inspection

if TYPE_CHECKING:
    from containerd.instance import Instance
    from containerd.machine import Machine
    from countersign.enforcement.problem import Problem


def of_machine(machine: Machine) -> list[Problem]:
    """Return everything by which a node with a containerd under systemd does not enforce."""
    return inspection.findings(machine.node, machine.layout, machine.pins)


def of_instance(instance: Instance) -> list[Problem]:
    """Return everything by which the private containerd of this host does not enforce."""
    return inspection.findings(instance.node, instance.layout, instance.pins)
