"""Containerd under systemd on a machine over SSH, as a place for the tasks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from containerd import enforce, fleet, pins
from containerd.machine import Machine
from countersign.console.config import Settings, record_place
from countersign.console.errors import InfrastructureError, MissingError, UsageError
from countersign.console.steps import Step, StepResult, run_steps
from countersign.enforcement import policy, proof, reach, record
from countersign.enforcement.forgotten import Forgotten
from countersign.enforcement.layout import SYSTEM
from countersign.enforcement.node_units import CONTAINERD, GATE, KUBELET
from countersign.nodes.host import HOST
from countersign.nodes.systemd import unit_state
from machines.remote import open_node

if TYPE_CHECKING:
    from countersign.enforcement.additions import Lab
    from countersign.nodes.node import Node
    from countersign.nodes.ssh import SshNode

UNITS = {"containerd": CONTAINERD, "gate": GATE}


class OnSsh:
    """See `containerd.backend.Backend`."""

    def __init__(self, settings: Settings, lab: Lab, *, demo: bool = False) -> None:
        self.settings = settings
        self._node: SshNode = open_node(settings)
        self._names = lab.names
        self._addition = lab.for_machine(settings, self._node, "containerd", asked=demo)

    def setup(self, *, keep: bool, plan: bool) -> list[StepResult]:
        """Bring the machine's containerd under enforcement; all that can be asked is asked before anything changes."""
        from countersign.console import output

        if not self._addition.keys_to_come():
            policy.render(self.settings.policy, ())
        together = self._fleet()
        self._require_pods(self._machine(together))
        for line in together.warnings():
            output.warn(line)
        existed = enforce.Restored(self._machine(together), self._names).needed()
        try:
            results = run_steps(self._steps(together, plan=plan), plan=plan)
        except BaseException as error:
            if not (existed or keep or plan):
                self._undo(together, error)
            raise
        if not plan:
            record_place(self.settings.state, self.settings.node)
        return results

    def _steps(self, together: fleet.Fleet, *, plan: bool) -> Iterator[Step]:
        """Yield the steps; what is pinned is known only once it was taken."""
        from countersign.console import output
        from countersign.tools.resolver import install

        keys_to_come = self._addition.keys_to_come()
        yield from self._addition.prepared()
        yield from self._addition.running()
        taken = PinsTaken(self._node, self._pins, together.sandbox_of(self._node.name))
        yield taken
        found = taken.find() if plan and not self._pins.is_file() else policy.read_pins(self._pins)
        programs = install(fleet.TOOLS, self.settings)
        yield from together.steps(found, programs, keys_to_come=keys_to_come)
        if plan and not keys_to_come:
            together.foresee(found, programs)
        if not plan:
            together.remember(found, programs)
            with output.progress(proof.CLAIM):
                proven = together.prove()
            for line in together.told():
                output.say(line)
            together.show(proven)

    def _require_pods(self, machine: Machine) -> None:
        """Refuse a machine on which no pod could start, with us or without.

        Raises:
            MissingError: it has no network for pods.
            InfrastructureError: its containerd does not answer over CRI.
        """
        with machine.client(timeout=10) as client:
            why = client.conditions().get("NetworkReady", "")
        if why:
            raise MissingError(
                f"containerd has no network for pods ({why})",
                where=self._node.name,
                do="install CNI plugins in /opt/cni/bin and a configuration in /etc/cni/net.d there",
            )

    def _undo(self, together: fleet.Fleet, error: BaseException) -> None:
        """Put the machine back as it was; one that cannot be reached any more is named with what is left on it."""
        try:
            run_steps(self._undoing(self._machine(together)))
        except InfrastructureError as failed:
            raise InfrastructureError(
                f"set-up failed ({error}), and what it did could not be undone ({failed})",
                where=self._node.name,
                do=f"run ./inv containerd.clean --on {self.settings.node}",
            ) from error

    def _undoing(self, machine: Machine) -> list[Step]:
        return [
            enforce.Restored(machine, self._names),
            ImagesRemoved(machine, self._names),
            *self._addition.released(),
            Forgotten(self.settings, (self._pins, record.beside(self._pins)), "containerd"),
        ]

    def require_up(self) -> None:
        """See `Backend.require_up`."""
        self._addition.require_up()
        machine = self._machine()
        machine.require_up()
        # registries are exposed nearly always where they were; a machine that lost the connection may need the new port
        for way in reach.way(self._node, machine.layout.certs, self._addition):
            if way.needed():
                way.apply()

    def runtime(self) -> Machine:
        """See `Backend.runtime`."""
        return self._machine()

    def members(self) -> list[Machine]:
        """See `Backend.members`."""
        return [fleet.as_set_up(self.settings, self._node, self._addition, self._pins)]

    def report(self) -> dict[str, Any]:
        """See `Backend.report`."""
        from containerd.inspection import of_machine
        from countersign.enforcement.report import document, of_service, of_unit

        services = [of_service(found) for found in self._addition.states()]
        kubelet = [KUBELET] if unit_state(self._node, KUBELET).enabled else []
        services += [of_unit(self._node, unit) for unit in (*UNITS.values(), *kubelet)]
        machine = self.members()[0]
        problems = {self._node.name: of_machine(machine)}
        return document(self.settings.node, self.settings.state, services, [machine], problems, "containerd")

    def log(self, name: str) -> bytes:
        """See `Backend.log`."""
        names = (*UNITS, "kubelet", *self._addition.services, "verdicts")
        if name not in names:
            raise UsageError(f"got {name!r}", where="--name", expected=", ".join(names))
        if name in self._addition.services:
            path = self._addition.log(name)
            if not path.is_file():
                raise UsageError("there is no such log yet", where=str(path), do="run ./inv containerd.setup")
            return HOST.get(str(path))
        if name == "verdicts":
            return self._node.run(["tail", "-n", "10000", SYSTEM.verdicts]).stdout
        unit = UNITS.get(name, KUBELET)
        return self._node.run(["journalctl", f"--unit={unit}", "--no-pager", "--lines=10000"]).stdout

    def clean(self, *, plan: bool) -> list[StepResult]:
        """Take our parts off the machine again; it and its containerd stay."""
        return run_steps(self._undoing(self._machine()), plan=plan)

    @property
    def _pins(self) -> Path:
        return self.settings.state.resolve() / "ssh" / self._node.name / "pins.json"

    def _fleet(self) -> fleet.Fleet:
        return fleet.gather(self.settings, [self._node], self._addition, self._pins)

    def _machine(self, together: fleet.Fleet | None = None) -> Machine:
        return (together or self._fleet()).machines[self._node.name]


@dataclass(frozen=True)
class PinsTaken:
    """The images that the machine itself needs are known by digest; taken once, before enforcement."""

    node: Node
    path: Path
    sandbox: str
    name: str = "images that the machine needs, pinned by digest"

    def needed(self) -> bool:
        """Return whether they were never taken; they are never taken again by themselves."""
        return not self.path.is_file()

    def find(self) -> list[str]:
        """Return them as they are now."""
        return sorted({*pins.take_from(self.node), self.sandbox})

    def apply(self) -> None:
        """Take them from the machine, keep them, and show them."""
        from countersign.console import output

        found = self.find()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        HOST.put((json.dumps(found, indent=2) + "\n").encode(), str(self.path))
        for pin in found:
            output.say(f"  pinned {pin}")


@dataclass(frozen=True)
class ImagesRemoved:
    """The machine has no image of a lab's registries."""

    machine: Machine
    names: Sequence[str]
    name: str = "the demo's images are gone"

    def needed(self) -> bool:
        """Return whether it has one."""
        return bool(self._found())

    def apply(self) -> None:
        """Remove them over CRI, which removes their IDs as well."""
        with self.machine.client() as client:
            for image in client.list_images():
                if any(self._ours(name) for name in (*image.tags, *image.digests)):
                    client.remove_image(image.id)
        self.machine.forget(*self._found())

    def _found(self) -> list[str]:
        from containerd.survey import targets

        return [name for name in targets(self.machine.node) if self._ours(name)]

    def _ours(self, name: str) -> bool:
        return any(name.startswith(f"{host}/") for host in self.names)
