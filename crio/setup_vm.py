"""A machine with CRI-O: the Vagrant machine, which is made if there is none, or any other one over SSH."""

from __future__ import annotations

from typing import TYPE_CHECKING

from countersign.console.config import Settings
from countersign.console.errors import UsageError
from countersign.console.steps import StepResult, run_steps
from crio import packages
from machines.remote import brought_up

if TYPE_CHECKING:
    from countersign.console.steps import Step
    from countersign.nodes.node import Node


def setup_vm(settings: Settings, *, kubernetes: bool, plan: bool) -> list[StepResult]:
    """Bring the machine up and install CRI-O on it; a second time changes nothing.

    Args:
        settings: the user's; the place ``auto`` is the Vagrant machine.
        kubernetes: also make it a cluster of one node.
        plan: list the steps and change nothing.

    Raises:
        UsageError: the place is not a machine, or a binary is to be a cluster.
        MissingError: this host or the distribution cannot do it.
    """
    if kubernetes and settings.crio.binary:
        raise UsageError("CRIO_BIN is set", where="--kubernetes", expected="CRI-O from its packages", do="unset it")
    node = brought_up(settings, plan=plan)
    return run_steps(steps(settings, node, kubernetes=kubernetes), plan=plan) if node else []


def steps(settings: Settings, node: Node, *, kubernetes: bool) -> list[Step]:
    """Return the steps that install CRI-O on a machine."""
    if settings.crio.binary:
        return packages.binary_steps(node, settings.crio.binary)
    return packages.steps(node, kubernetes)
