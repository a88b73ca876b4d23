"""Several machines that are brought under enforcement together: the nodes of a cluster, or one machine over SSH."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from containerd import enforce
from containerd.machine import SOCKET, Machine
from containerd.survey import Survey, survey
from countersign.console.errors import MissingError
from countersign.enforcement import (
    doctor,
    foreseen,
    gate,
    gate_unit,
    nri,
    policy,
    proof,
    reach,
    record,
    versions,
)
from countersign.enforcement.layout import SYSTEM
from countersign.enforcement.policy import Policy
from countersign.nodes.each import OnEach, on_each, side_by_side

if TYPE_CHECKING:
    from countersign.console.config import Settings
    from countersign.console.steps import Step
    from countersign.enforcement.additions import Addition
    from countersign.enforcement.proof import Proof
    from countersign.nodes.node import Node

TOOLS = ("countersign-gate", "countersign-hook")
TOO_OLD_FOR_NRI = (
    "containerd before 2.2 can't require the gate's NRI plugin: containers of a runtime handler that is added after "
    "set-up start unjudged, and the gate only reports it (its log, countersign_handlers_without_hook); upgrade it"
)
SLICE = "countersign.slice"
CGROUP = "/countersign"


@dataclass(frozen=True)
class Fleet:
    """Machines with what each of them is like.

    Attributes:
        settings: the user's.
        machines: node name → the machine.
        surveys: node name → what it is like.
    """

    settings: Settings
    machines: Mapping[str, Machine]
    surveys: Mapping[str, Survey] = field(repr=False)

    def sandbox_of(self, name: str) -> str:
        """Return a node's sandbox image by digest: its own, or what it is given.

        Raises:
            MissingError: it has none, and is given none.
        """
        found = self.surveys[name].sandbox or self.machines[name].addition.sandbox()
        if not found:
            what = self.surveys[name].sandbox_named or "none is named in its configuration"
            raise MissingError(
                f"does not have its sandbox image yet ({what}), so that it cannot be pinned",
                where=name,
                do=f"pull it there (ctr -n k8s.io images pull {what})",
            )
        return found

    def warnings(self) -> list[str]:
        """Return a line for each machine whose containerd has known holes, or can't require the gate's plugin."""
        found = []
        for name, each in self.surveys.items():
            lines = (versions.holes(each.version), "" if each.nri else TOO_OLD_FOR_NRI)
            found += [f"{name}: {line}" for line in lines if line]
        return found

    def steps(self, pins: Sequence[str], programs: Mapping[str, Path], *, keys_to_come: bool) -> list[OnEach]:
        """Return the steps that bring every machine under enforcement.

        Args:
            pins: what the nodes themselves need, by digest.
            programs: gate and hook.
            keys_to_come: an earlier step makes the keys that the policy names.
        """
        lists = {
            name: enforce.steps(
                enforce.Work(
                    machine=machine,
                    survey=self.surveys[name],
                    gate=self._gate(machine, self.surveys[name], programs),
                    sandbox=self.sandbox_of(name),
                    policy=self.settings.policy,
                    pins=pins,
                    keys_to_come=keys_to_come,
                )
            )
            for name, machine in self.machines.items()
        }
        return on_each(lists)

    def foresee(self, pins: Sequence[str], programs: Mapping[str, Path]) -> None:
        """Say of every machine what it runs that would be refused; the arguments are those of `steps`."""
        rendered = policy.render(self.settings.policy, pins)
        for name, machine in self.machines.items():
            parts = self._gate(machine, self.surveys[name], programs)
            foreseen.show(
                machine.node,
                foreseen.AuditRequest(
                    machine.layout, parts.program, rendered, parts.docker_config, "containerd", SOCKET
                ),
            )

    def told(self) -> list[str]:
        """Return a line for each machine whose containerd requires the gate's plugin: about its NRI."""
        required = [machine for name, machine in self.machines.items() if self.surveys[name].nri]
        return side_by_side(lambda each: nri.told(each.node, each.layout, "containerd"), required)

    def remember(self, pins: Sequence[str], programs: Mapping[str, Path]) -> None:
        """Keep a record of what the steps put on every machine; the arguments are those of `steps`."""
        lists: dict[str, list[Step]] = {}
        for name, machine in self.machines.items():
            found = self.surveys[name]
            lists[name] = [
                *gate.steps(self._gate(machine, found, programs)),
                Policy(machine.node, machine.layout, self.settings.policy, tuple(pins)).as_laid(),
                gate_unit.group(machine.node, machine.layout, lacks_resource=found.lacks_resource),
            ]
        for path in {record.beside(machine.pins) for machine in self.machines.values()}:
            record.keep(path, lists)

    def prove(self) -> list[Proof]:
        """Refuse to call it done while anything could run unseen on any machine.

        Raises:
            NotEnforced: with everything found on the first machine that has something.
        """
        image = self.settings.registry.proof_image
        return side_by_side(lambda machine: _prove(machine, image), list(self.machines.values()))

    def show(self, proven: Sequence[Proof]) -> None:
        """Tell what else came of the proofs, machine by machine."""
        for machine, each in zip(self.machines.values(), proven, strict=True):
            proof.show(machine, each)

    def _gate(self, machine: Machine, found: Survey, programs: Mapping[str, Path]) -> gate.Gate:
        return gate.Gate(
            node=machine.node,
            layout=machine.layout,
            program=programs["countersign-gate"],
            hook=programs["countersign-hook"],
            docker_config=reach.docker_config(self.settings.registry.docker_config, machine.addition.logins),
            providers=gate.providers(self.settings.registry),
            runtime_socket=SOCKET,
            nri=found.nri,
            base_specs=found.base_specs,
        )


def gather(settings: Settings, nodes: Sequence[Node], addition: Addition, pins: Path) -> Fleet:
    """Ask every node what it is like, and return them as one fleet.

    Args:
        settings: the user's.
        nodes: each with a containerd under systemd.
        addition: what the nodes are given beside enforcement.
        pins: the file on this machine with what set-up pins.
    """
    found = dict(
        zip((node.name for node in nodes), side_by_side(lambda node: survey(node, SYSTEM), nodes), strict=True)
    )
    machines = {node.name: machine(settings, node, found[node.name], addition, pins) for node in nodes}
    return Fleet(settings, machines, found)


def machine(settings: Settings, node: Node, found: Survey, addition: Addition, pins: Path) -> Machine:
    """Return a node as it was found; the arguments are those of `gather`."""
    return Machine(
        state=settings.state,
        node=node,
        handlers=tuple(found.handlers),
        pins=pins,
        addition=addition,
        cgroup_parent=SLICE if found.systemd_cgroups else CGROUP,
        snapshotter=found.snapshotter,
        layout=replace(SYSTEM, certs=found.certs),
    )


def as_set_up(settings: Settings, node: Node, addition: Addition, pins: Path) -> Machine:
    """Return a node to be looked at only: nothing is asked of a containerd that may be down."""
    return Machine(state=settings.state, node=node, handlers=(), pins=pins, addition=addition)


def _prove(machine: Machine, image: str) -> Proof:
    machine.wait_for_plugin()
    doctor.examine(machine.node, machine.layout)
    return proof.prove(machine, "--cgroup-parent", machine.cgroup_parent, image=image)
