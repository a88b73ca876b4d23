"""A runtime at one place: set-up looks, plans, applies and proves; a plan is the same code that stops earlier."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from countersign.console import output
from countersign.console.config import record_place
from countersign.console.steps import Changes, Stage, Step, StepResult, run_steps
from countersign.enforcement import foreseen, policy, proof, record
from countersign.enforcement.report import document
from countersign.nodes.each import side_by_side
from countersign.runtimes.machine import Machine
from countersign.runtimes.work import Work, remembered

if TYPE_CHECKING:
    from countersign.console.config import Settings
    from countersign.enforcement.additions import Addition
    from countersign.enforcement.report import ServiceState
    from countersign.oci.registry import Registry


class Place(ABC):
    """A runtime at one place, from set-up to teardown.

    Attributes:
        settings: the configuration, with this place alone.
        addition: what the place is given beside enforcement.
        adapter: the runtime.
        keep: what a set-up that fails has made stays.
    """

    claim = proof.CLAIM

    def __init__(self, settings: Settings, addition: Addition, adapter: type[Machine]) -> None:
        self.settings = settings
        self.addition = addition
        self.adapter = adapter
        self.keep = False

    # What each kind of place has to say for itself.

    @abstractmethod
    def look(self) -> None:
        """Find out all that can be before the first change, and refuse what can't work."""

    @abstractmethod
    def exists(self) -> bool:
        """Return whether anything of ours is there already: then a set-up that fails takes nothing away."""

    @abstractmethod
    def stages(self) -> Sequence[Stage]:
        """Return what set-up does, in order."""

    @abstractmethod
    def give(self) -> Sequence[Work[Any]]:
        """Return what each node is given, once that can be told."""

    def afterwards(self) -> Sequence[Step]:
        """Return what only a place that has proven itself is given."""
        return ()

    @abstractmethod
    def teardown(self) -> Sequence[Step]:
        """Return what takes it all away again, whatever is left of it."""

    @abstractmethod
    def undo(self, error: BaseException) -> None:
        """Take away what a set-up that failed has done."""

    def what(self) -> str:
        """Return what there is at the place, as users read it."""
        return self.settings.node

    def runtime(self) -> Machine:
        """Return the node that trials use, under enforcement."""
        return self.members()[0]

    @abstractmethod
    def members(self) -> Sequence[Machine]:
        """Return every node, to be looked at and given a policy; nothing is asked of its runtime."""

    # What all of them do.

    @cached_property
    def works(self) -> Sequence[Work[Any]]:
        """What each node is given, worked out once a set-up."""
        return self.give()

    def setup(self, *, keep: bool, plan: bool) -> list[StepResult]:
        """Bring it under enforcement and prove that; after a failure nothing half-done stays.

        Args:
            keep: what there is stays when a step fails.
            plan: list what would be done, and change nothing.
        """
        for earlier in ("inspected", "works"):
            self.__dict__.pop(earlier, None)
        if not self.addition.keys_to_come():
            policy.render(self.settings.policy, ())
        self.keep = keep
        self.look()
        existed = self.exists()
        changes = Changes(plan=plan)
        try:
            return self._set_up(changes, plan=plan)
        except BaseException as error:
            if not changes.begun:
                raise
            if existed or keep:
                clean = f"./inv {self.adapter.room}.clean --on {self.settings.node}"
                output.warn(f"kept as it is: {self.what()}; {clean} takes it away")
            else:
                self.undo(error)
            raise

    def _set_up(self, changes: Changes, *, plan: bool) -> list[StepResult]:
        if changes.through(self.stages()):
            if plan:
                self._foresee()
            else:
                self._remember()
                self._prove()
            changes.make(self.afterwards())
        if not plan:
            record_place(self.settings.state, self.settings.node, self.adapter.room)
        return changes.end()

    def _foresee(self) -> None:
        """Say of every node what it runs that would be refused; nothing can be told while keys are to come."""
        for given in self.works if not self.addition.keys_to_come() else ():
            foreseen.show(given.machine.node, self._audit(given))

    def _audit(self, given: Work[Any]) -> foreseen.AuditRequest:
        machine, rendered = given.machine, policy.render(given.policy, given.pins)
        return foreseen.AuditRequest(
            machine.layout, given.gate.program, rendered, given.gate.docker_config, machine.room, machine.socket
        )

    def _remember(self) -> None:
        """Keep a record of what was put on every node, for those who look later."""
        works = self.works
        lists = {given.machine.node.name: remembered(given) for given in works}
        for path in {record.beside(given.machine.pins) for given in works}:
            record.keep(path, lists)

    def _prove(self) -> None:
        """Refuse to call it done while anything could run unseen on any node, and tell what came of it.

        Raises:
            NotEnforced: with everything found on the first node that has something.
        """
        machines = [given.machine for given in self.works]
        image = self.settings.registry.proof_image
        with output.progress(self.claim):
            proven = side_by_side(lambda machine: machine.prove(image), machines)
        for line in filter(None, side_by_side(lambda machine: machine.told(), machines)):
            output.say(line)
        for machine, each in zip(machines, proven, strict=True):
            proof.show(machine, each)

    def clean(self, *, plan: bool) -> list[StepResult]:
        """Take it all away again."""
        return run_steps(self.teardown(), plan=plan)

    def require_up(self) -> None:
        """Raise InfrastructureError unless everything runs."""
        side_by_side(lambda machine: machine.require_up(), self.members())

    def log(self, name: str) -> bytes:
        """Return the end of a log. Raises UsageError when there is none of that name."""
        return self.members()[0].keeper.log(name)

    def registry(self) -> Registry:
        """Return a client of its addition's registries, as this machine reaches them."""
        return self.addition.client()

    def report(self) -> dict[str, Any]:
        """Return the document of ``status --json``; ``ok`` is true when nothing is amiss."""
        machines = self.reported()
        looks = side_by_side(lambda machine: machine.findings(), machines)
        problems = {machine.node.name: look for machine, look in zip(machines, looks, strict=True)}
        services, adapter = self.services(machines), self.adapter
        place, state = self.settings.node, self.settings.state
        setup, version = adapter.setup(), adapter.status
        return document(place, state, services, machines, problems, setup, version=version, **self.more())

    def reported(self) -> Sequence[Machine]:
        """Return the nodes that can be asked."""
        return self.members()

    def services(self, machines: Sequence[Machine]) -> list[ServiceState]:
        """Return how the services of these nodes are."""
        return [found for machine in machines for found in machine.keeper.states()]

    def more(self) -> dict[str, Any]:
        """Return what the document of status says of this kind of place."""
        return {}
