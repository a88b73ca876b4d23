"""A private CRI-O of this host, as a place for the tasks; its program is the user's."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countersign.console.config import Settings, record_place
from countersign.console.steps import StepResult, run_steps
from countersign.enforcement import canary, gate, images, policy, registries
from countersign.enforcement.gate import CrioStorage
from countersign.enforcement.keys import KeyPair
from countersign.enforcement.registries import FALLBACK, REFERRERS
from countersign.nodes import service
from countersign.nodes.steps import File, Group, Link, Running
from crio import enforce, private
from crio.enforce import Configured, Work
from crio.machine import Machine

if TYPE_CHECKING:
    from countersign.console.steps import Step
    from countersign.nodes.node import Node
    from countersign.oci.registry import Registry

TOOLS = (
    "runc",
    "cni-loopback",
    "countersign-gate",
    "countersign-hook",
    "registry",
    "registry-fallback",
    "pause",
    "demo",
)
PAUSE = f"{REFERRERS}/system/pause"
PAUSE_TAG = "countersign"


class OnHost:
    """See `crio.backend.Backend`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._ours = private.instance(settings.state)

    def configure(self, *, keep: bool, plan: bool) -> list[StepResult]:
        """Start CRI-O with gate, hook, its own policy and the demo's registries."""
        from countersign.console import output
        from countersign.enforcement import allowing
        from crio.prove import prove
        from crio.status import remember

        crio = private.program(self.settings)
        if not KeyPair(self.settings.keys).needed(self._ours.node):
            policy.render(self.settings.policy, ())
        with self._removed_on_failure(keep=keep or plan):
            work, parts, steps = self._steps(crio)
            results = run_steps(self._ours.node, steps, plan=plan)
            if not plan:
                remember(work, parts)
                with output.progress("an image without a signature is refused at pull and at start"):
                    prove(self.machine())
                output.say(self.machine().nri())
                allowing.show(work.machine, self.settings.policy, self.settings.registry.proof_image)
                record_place(self.settings.state, "host", "crio")
        return results

    def machine(self) -> Machine:
        """See `Backend.machine`."""
        return private.machine(self._ours, self.settings, registries.load_or_make(self._ours.registry_folder))

    def clean(self, *, plan: bool) -> list[StepResult]:
        """See `Backend.clean`."""
        from countersign.enforcement.gone import check, steps

        check(self._ours)
        return run_steps(self._ours.node, steps(self._ours), plan=plan)

    def report(self) -> dict[str, Any]:
        """See `Backend.report`."""
        from crio.status import document

        return document(self.settings, "host", [self.machine()])

    def _steps(self, crio: Path) -> tuple[Work, gate.Gate, list[Step[Node]]]:
        from countersign.oci.build import variant
        from countersign.tools.images import demo_layout, pause_layout
        from countersign.tools.resolver import install

        ours, settings = self._ours, self.settings
        demo = registries.load_or_make(ours.registry_folder)
        registries.check_ports(demo, ours.run)
        programs = install(TOOLS, settings)
        pause = pause_layout(settings)
        marked = settings.cache / "canary" / images.digest(demo_layout(settings)).replace(":", "-")
        if not (marked / "index.json").is_file():
            variant(demo_layout(settings), "canary", marked)
        sandbox = f"{PAUSE}@{images.digest(pause)}"
        keys = KeyPair(settings.keys)
        parts = gate.Gate(
            layout=ours.layout,
            program=programs["countersign-gate"],
            hook=programs["countersign-hook"],
            docker_config=registries.docker_config(demo, settings.registry.docker_config),
            providers=gate.providers(settings.registry),
            crio=CrioStorage(ours.paths.storage, ours.paths.run_storage, ours.paths.nri),
        )
        work = Work(
            machine=private.machine(ours, settings, demo),
            policy=settings.policy,
            pins=(sandbox,),
            tags=(),
            sandbox=sandbox,
            hooks_dirs=(),
            addresses={name: demo.url(FALLBACK if name == FALLBACK else REFERRERS) for name in _names()},
            keys_to_come=keys.needed(ours.node),
            private=True,
        )
        running = registries.services(demo, ours.layout, ours.cgroup, programs)
        own = private.configuration(ours, crio, programs, "overlay" if self._overlay() else "vfs")

        def up() -> bool:
            return service.state(ours.run, registries.SERVICES[REFERRERS]).state == "running"

        steps: list[Step[Node]] = [
            keys,
            Group(f"folders of CRI-O ({ours.root})", private.folders(ours)),
            File(str(ours.pins), (json.dumps([sandbox], indent=2) + "\n").encode()),
            *gate.steps(parts),
            *registries.steps(demo, ours.layout, running),
            images.Pushed(self.registry, PAUSE, PAUSE_TAG, pause, up),
            *(
                images.Pushed(self.registry, repository, canary.TAG, marked, up)
                for repository in (canary.REPOSITORY, canary.REFUSED)
            ),
            *enforce.steps(
                work, Running(gate.service(parts, ours.cgroup)), self._runtime(work.machine, crio, own, programs)
            ),
        ]
        return work, parts, steps

    def _runtime(self, machine: Machine, crio: Path, own: Sequence[File], programs: Mapping[str, Path]) -> Any:
        def runtime(files: Sequence[File]) -> Step[Node]:
            every = [*own, *files]
            inputs = {**{file.path: file.digest() for file in every}, "crio": str(crio)}
            running = private.crio_service(self._ours, crio, inputs)
            links = [Link(f"{self._ours.layout.bin}/cni/loopback", str(programs["cni-loopback"]))]
            return Group(
                "CRI-O runs by our settings", [*links, Configured(machine, every, Running(running), ran_before=False)]
            )

        return runtime

    def _overlay(self) -> bool:
        from countersign.nodes.facts import overlay_works

        root = self._ours.root
        return overlay_works(self._ours.node, str(next(each for each in (root, *root.parents) if each.is_dir())))

    def registry(self) -> Registry:
        """Return a client that reaches the demo's registries."""
        from countersign.oci.registry import Registry

        layout = self._ours.layout
        return Registry(Path(layout.certs), Path(layout.docker_config), allow_http=self.settings.registry.allow_http)

    @contextmanager
    def _removed_on_failure(self, *, keep: bool) -> Iterator[None]:
        from countersign.console import output
        from countersign.enforcement.gone import steps

        keep = keep or self._ours.root.exists()
        try:
            yield
        except BaseException:
            if keep:
                output.warn(f"kept as it is: {self._ours.root}; ./inv crio.clean --on host takes it away")
            else:
                run_steps(self._ours.node, steps(self._ours))
            raise


def _names() -> tuple[str, ...]:
    return (*registries.MAPPED, FALLBACK)
