"""A private CRI-O of this host, as a place for the tasks; its program is the user's."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countersign.console.config import Settings, record_place
from countersign.console.errors import MissingError
from countersign.console.steps import StepResult, run_steps
from countersign.enforcement import gate, policy, reach
from countersign.enforcement.gate import CrioStorage
from countersign.nodes.steps import File, Group, Link, Running
from crio import enforce, private
from crio.enforce import Configured, Work
from crio.machine import Machine

if TYPE_CHECKING:
    from countersign.console.steps import Step
    from countersign.enforcement.additions import Lab
    from countersign.oci.registry import Registry

TOOLS = (
    "runc",
    "cni-loopback",
    "countersign-gate",
    "countersign-hook",
)


class OnHost:
    """See `crio.backend.Backend`."""

    def __init__(self, settings: Settings, lab: Lab) -> None:
        self.settings = settings
        ours = private.instance(settings.state)
        self._ours = replace(ours, addition=lab.for_host(settings, ours.layout, ours.cgroup, ours.root))

    def configure(self, *, keep: bool, plan: bool) -> list[StepResult]:
        """Start CRI-O with gate, hook and its own policy, and what the place is given beside."""
        from countersign.console import output
        from countersign.enforcement import proof
        from crio.proof import prove
        from crio.status import remember

        crio = private.program(self.settings)
        if not self._ours.addition.keys_to_come():
            policy.render(self.settings.policy, ())
        work, parts, steps = self._steps(crio)
        with self._removed_on_failure(keep=keep or plan):
            results = run_steps(steps, plan=plan)
            if not plan:
                remember(work, parts)
                with output.progress(proof.CLAIM):
                    proven = prove(self.machine(), self.settings.registry.proof_image)
                output.say(self.machine().nri())
                proof.show(work.machine, proven)
                record_place(self.settings.state, "host", "crio")
        return results

    def machine(self) -> Machine:
        """See `Backend.machine`."""
        return private.machine(self._ours, self.settings)

    def members(self) -> list[Machine]:
        """See `Backend.members`."""
        return [self.machine()]

    def clean(self, *, plan: bool) -> list[StepResult]:
        """See `Backend.clean`."""
        from countersign.enforcement.teardown import check, steps

        check(self._ours)
        return run_steps(steps(self._ours), plan=plan)

    def report(self) -> dict[str, Any]:
        """See `Backend.report`."""
        from crio.status import document

        return document(self.settings, "host", [self.machine()])

    def _steps(self, crio: Path) -> tuple[Work, gate.Gate, list[Step]]:
        from countersign.tools.resolver import install

        ours, settings = self._ours, self.settings
        addition = ours.addition
        programs = install(TOOLS, settings)
        sandbox = addition.sandbox()
        if not sandbox:
            raise MissingError("brings no sandbox image", where="a CRI-O of our own", do="set up one that has one")
        parts = gate.Gate(
            node=ours.node,
            layout=ours.layout,
            program=programs["countersign-gate"],
            hook=programs["countersign-hook"],
            docker_config=reach.docker_config(settings.registry.docker_config, addition.logins),
            providers=gate.providers(settings.registry),
            crio=CrioStorage(ours.paths.storage, ours.paths.run_storage, ours.paths.nri, ours.paths.socket),
        )
        work = Work(
            machine=private.machine(ours, settings),
            policy=settings.policy,
            pins=(sandbox,),
            tags=(),
            sandbox=sandbox,
            hooks_dirs=(),
            keys_to_come=addition.keys_to_come(),
            private=True,
        )
        own = private.configuration(ours, crio, programs, "overlay" if self._overlay() else "vfs")

        steps: list[Step] = [
            *addition.prepared(),
            Group(self._ours.node, f"folders of CRI-O ({ours.root})", private.folders(ours)),
            File(self._ours.node, str(ours.pins), (json.dumps([sandbox], indent=2) + "\n").encode()),
            *gate.steps(parts),
            *addition.running(),
            *enforce.steps(
                work, Running(gate.service(parts, ours.cgroup)), self._runtime(work.machine, crio, own, programs)
            ),
        ]
        return work, parts, steps

    def _runtime(self, machine: Machine, crio: Path, own: Sequence[File], programs: Mapping[str, Path]) -> Any:
        def runtime(files: Sequence[File]) -> Step:
            every = [*own, *files]
            inputs = {**{file.path: file.digest() for file in every}, "crio": str(crio)}
            running = private.crio_service(self._ours, crio, inputs)
            links = [Link(self._ours.node, f"{self._ours.layout.bin}/cni/loopback", str(programs["cni-loopback"]))]
            return Group(
                self._ours.node,
                "CRI-O runs by our settings",
                [*links, Configured(machine, every, Running(running), ran_before=False)],
            )

        return runtime

    def _overlay(self) -> bool:
        from countersign.nodes.facts import overlay_works

        root = self._ours.root
        return overlay_works(self._ours.node, str(next(each for each in (root, *root.parents) if each.is_dir())))

    def registry(self) -> Registry:
        """Return a client that reaches the demo's registries."""
        return self._ours.addition.client()

    @contextmanager
    def _removed_on_failure(self, *, keep: bool) -> Iterator[None]:
        from countersign.console import output
        from countersign.enforcement.teardown import steps

        keep = keep or self._ours.root.exists()
        try:
            yield
        except BaseException:
            if keep:
                output.warn(f"kept as it is: {self._ours.root}; ./inv crio.clean --on host takes it away")
            else:
                run_steps(steps(self._ours))
            raise
