"""The private containerd of this host, as a place for the tasks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from containerd.instance import instance
from countersign.console.config import Settings, record_place
from countersign.console.errors import UsageError
from countersign.console.steps import StepResult, run_steps

if TYPE_CHECKING:
    from containerd.instance import Instance
    from countersign.enforcement.additions import Lab


class OnHost:
    """See `containerd.backend.Backend`."""

    def __init__(self, settings: Settings, lab: Lab) -> None:
        self.settings = settings
        ours = instance(settings.state)
        self._instance = replace(ours, addition=lab.for_host(settings, ours.layout, ours.cgroup, ours.root))

    def setup(self, *, keep: bool, plan: bool) -> list[StepResult]:
        """Start containerd with gate, hook and verifier, and what the place is given beside."""
        from containerd import setup as actions
        from containerd.lifecycle import removed_on_failure
        from countersign.console import output
        from countersign.enforcement import nri, proof

        actions.check(self.settings, self._instance)
        prepared = actions.prepare(self.settings, self._instance)
        wanted = actions.steps(prepared)
        with removed_on_failure(self._instance, keep=keep or plan):
            results = run_steps(wanted, plan=plan)
            if not plan:
                actions.remember(prepared)
                with output.progress(proof.CLAIM):
                    proven = actions.prove(self._instance, self.settings.registry.proof_image)
                ours = self._instance
                output.say(nri.told(ours.node, ours.layout, ours.program("containerd")))
                proof.show(self._instance, proven)
                record_place(self.settings.state, self._instance.node.name)
        return results

    def require_up(self) -> None:
        """See `Backend.require_up`."""
        self._instance.require_up()

    def runtime(self) -> Instance:
        """See `Backend.runtime`."""
        return self._instance

    def members(self) -> list[Instance]:
        """See `Backend.members`."""
        return [self._instance]

    def report(self) -> dict[str, Any]:
        """See `Backend.report`."""
        from containerd.inspection import of_instance
        from countersign.enforcement.report import document, of_service

        ours = self._instance
        services = [of_service(found) for found in ours.states()]
        problems = {ours.node.name: of_instance(ours)}
        return document("host", ours.state, services, [ours], problems, "containerd", socket=ours.socket)

    def log(self, name: str) -> bytes:
        """See `Backend.log`."""
        names = (*self._instance.services, "verdicts")
        if name not in names:
            raise UsageError(f"got {name!r}", where="--name", expected=", ".join(names))
        layout = self._instance.layout
        path = Path(layout.verdicts if name == "verdicts" else f"{layout.log}/{name}.log")
        if not path.is_file():
            raise UsageError("there is no such log yet", where=str(path), do="run ./inv containerd.setup")
        return self._instance.node.get(str(path))

    def clean(self, *, plan: bool) -> list[StepResult]:
        """See `Backend.clean`."""
        from countersign.enforcement.teardown import check, steps

        check(self._instance)
        return run_steps(steps(self._instance), plan=plan)
