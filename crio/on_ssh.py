"""CRI-O under systemd on a machine over SSH, the Vagrant machine too, as a place for the tasks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from countersign.console.config import Settings, record_place
from countersign.console.errors import InfrastructureError, MissingError
from countersign.console.steps import Step, StepResult, run_steps
from countersign.enforcement import foreseen, gate, gate_unit, policy, proof, reach, record
from countersign.enforcement.forgotten import Forgotten
from countersign.enforcement.gate import CrioStorage
from countersign.enforcement.layout import SYSTEM
from countersign.enforcement.node_units import ACTIVE, KubeletRuns
from countersign.nodes.facts import CAP_SYS_RESOURCE, has_capability
from countersign.nodes.host import HOST
from countersign.nodes.systemd import UnitRuns, unit_state
from crio import effective, enforce, packages, system_images, units
from crio.effective import Effective
from crio.enforce import Configured, Work
from crio.machine import Machine
from crio.paths import INSTALLED
from crio.proof import prove
from crio.units import CRIO, Restored
from machines.remote import open_node

if TYPE_CHECKING:
    from collections.abc import Sequence

    from countersign.enforcement.additions import Lab
    from countersign.nodes.node import Node
    from countersign.nodes.ssh import SshNode
    from countersign.nodes.steps import File

TOOLS = ("countersign-gate", "countersign-hook")


@dataclass(frozen=True)
class Taken:
    """What the node itself needs, taken before enforcement and kept.

    Attributes:
        sandbox: its sandbox image by digest.
        pins: all of it, by digest.
        tags: names by tag.
        hooks_dirs: its own folders of hooks.
    """

    sandbox: str
    pins: Sequence[str]
    tags: Sequence[str]
    hooks_dirs: Sequence[str]


class OnSsh:
    """See `crio.backend.Backend`."""

    def __init__(self, settings: Settings, lab: Lab, *, demo: bool = False) -> None:
        self.settings = settings
        self._node: SshNode = open_node(settings)
        self._names = lab.names
        self._addition = lab.for_machine(settings, self._node, "crio", asked=demo)

    def configure(self, *, keep: bool, plan: bool) -> list[StepResult]:
        """Bring the machine's CRI-O under enforcement; all that can be asked is asked before anything changes."""
        from countersign.console import output

        if not self._addition.keys_to_come():
            policy.render(self.settings.policy, ())
        packages.require_version(self._node)
        self._require_running()
        existed = self._restored.needed()
        try:
            results = run_steps(self._steps(plan=plan), plan=plan)
            if not plan:
                with output.progress(proof.CLAIM):
                    proven = prove(self._machine(), self.settings.registry.proof_image)
                output.say(self._machine().nri())
                proof.show(self._machine(), proven)
                record_place(self.settings.state, self.settings.node, "crio")
        except BaseException as error:
            if not (existed or keep or plan):
                self._undo(error)
            raise
        return results

    def machine(self) -> Machine:
        """See `Backend.machine`; the way to a lab's registries is mended, for their ports may be other ones by now."""
        found = self._machine()
        if self._node.exists(INSTALLED.drop_in):
            for way in enforce.way_to_registries(found):
                if way.needed():
                    way.apply()
        return found

    def _machine(self) -> Machine:
        engine: Literal["strict", "lenient"] = "lenient" if self.settings.crio.engine == "lenient" else "strict"
        found = units.machine(self.settings.state, self._node, self._effective, self._addition, engine, self._pins)
        return replace(found, tags=tuple(Kept(self._kept, self._take).read().tags) if self._kept.is_file() else ())

    def members(self) -> list[Machine]:
        """See `Backend.members`."""
        return [self._machine()]

    def clean(self, *, plan: bool) -> list[StepResult]:
        """Take our parts off the machine again; it and its CRI-O stay."""
        return run_steps(self._undoing(), plan=plan)

    def report(self) -> dict[str, Any]:
        """See `Backend.report`."""
        from crio.status import document

        return document(self.settings, self.settings.node, [self._machine()])

    def _steps(self, *, plan: bool) -> Iterator[Step]:
        from countersign.tools.resolver import install
        from crio.status import remember

        keys_to_come = self._addition.keys_to_come()
        yield from self._addition.prepared()
        yield from self._addition.running()
        kept = Kept(self._kept, self._take)
        yield kept
        taken = kept.read() if self._kept.is_file() else self._take()
        yield PinsFile(self._pins, tuple(taken.pins))
        programs = install(TOOLS, self.settings)
        found = self._effective
        parts = gate.Gate(
            node=self._node,
            layout=SYSTEM,
            program=programs["countersign-gate"],
            hook=programs["countersign-hook"],
            docker_config=reach.docker_config(self.settings.registry.docker_config, self._addition.logins),
            providers=gate.providers(self.settings.registry),
            crio=CrioStorage(found.storage, found.run_storage, INSTALLED.nri, INSTALLED.socket),
        )
        work = Work(
            machine=self._machine(),
            policy=self.settings.policy,
            pins=taken.pins,
            tags=taken.tags,
            sandbox=taken.sandbox,
            hooks_dirs=taken.hooks_dirs,
            keys_to_come=keys_to_come,
        )
        lacks = not has_capability(self._node, CAP_SYS_RESOURCE)

        def runtime(files: Sequence[File]) -> Step:
            return Configured(work.machine, files, UnitRuns(self._node, CRIO, [file.path for file in files]))

        yield from gate.steps(parts)
        unit = gate_unit.group(self._node, SYSTEM, lacks_resource=lacks)
        yield from enforce.steps(work, unit, runtime)
        yield KubeletRuns(self._node)
        if plan and not keys_to_come:
            rendered = policy.render(self.settings.policy, taken.pins)
            foreseen.show(
                self._node,
                foreseen.AuditRequest(SYSTEM, parts.program, rendered, parts.docker_config, "crio", INSTALLED.socket),
            )
        if not plan:
            remember(work, parts, unit)

    def _require_running(self) -> None:
        """Raise InfrastructureError unless CRI-O runs: what it is like has to be asked of it."""
        if unit_state(self._node, CRIO).active != ACTIVE:
            self._node.run(["systemctl", "start", CRIO], check=False, timeout=120)
        found = unit_state(self._node, CRIO)
        if found.active != ACTIVE:
            raise InfrastructureError(
                f"{CRIO} is {found.active}", where=self._node.name, do="start it there, and read journalctl -u crio"
            )

    def _take(self) -> Taken:
        """Ask the machine what it needs.

        Raises:
            MissingError: it has no sandbox image, reaches none, and is given none.
        """
        found = self._effective
        with self._machine().client() as client:
            sandbox = system_images.sandbox(client, found.sandbox) or self._addition.sandbox()
            pins, tags = system_images.taken(client)
        if not sandbox:
            raise MissingError(
                f"does not have its sandbox image ({found.sandbox}) and cannot pull it, so that it cannot be pinned",
                where=self._node.name,
                do="bring it there, or name one that it reaches as pause_image in /etc/crio/crio.conf.d",
            )
        others = [folder for folder in found.hooks_dirs if folder != INSTALLED.hooks]
        return Taken(sandbox, sorted({*pins, sandbox}), tags, others)

    def _undo(self, error: BaseException) -> None:
        """Put the machine back as it was; one that cannot be reached any more is named with what is left on it."""
        try:
            run_steps(self._undoing())
        except InfrastructureError as failed:
            raise InfrastructureError(
                f"configuring failed ({error}), and what it did could not be undone ({failed})",
                where=self._node.name,
                do=f"run ./inv crio.clean --on {self.settings.node}",
            ) from error

    def _undoing(self) -> list[Step]:
        kept = (self._pins, self._kept, record.beside(self._pins))
        return [
            ImagesRemoved(self._node, tuple(self._names)),
            self._restored,
            *self._addition.released(),
            Forgotten(self.settings, kept, "crio"),
        ]

    @property
    def _restored(self) -> Restored:
        return Restored(self._node, self._names, self._addition.urls)

    @property
    def _home(self) -> Path:
        return self.settings.state.resolve() / "ssh" / self._node.name

    @property
    def _pins(self) -> Path:
        return self._home / "crio-pins.json"

    @property
    def _kept(self) -> Path:
        return self._home / "crio.json"

    @cached_property
    def _effective(self) -> Effective:
        return effective.effective(self._node, "crio", INSTALLED.socket)


@dataclass(frozen=True)
class Kept:
    """What the machine needs is known by digest; taken once, before enforcement, and shown."""

    path: Path
    take: Any = field(repr=False)
    name: str = "images that the machine needs, pinned by digest"

    def needed(self) -> bool:
        """Return whether it was never taken; it is never taken again by itself."""
        return not self.path.is_file()

    def apply(self) -> None:
        """Take it, keep it, and show it."""
        from countersign.console import output

        found: Taken = self.take()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        HOST.put((json.dumps(vars(found), indent=2) + "\n").encode(), str(self.path))
        for pin in found.pins:
            output.say(f"  pinned {pin}")

    def read(self) -> Taken:
        """Return what was kept."""
        return Taken(**json.loads(self.path.read_text(encoding="utf-8")))


@dataclass(frozen=True)
class PinsFile:
    """The pins lie where the verbs after set-up read them."""

    path: Path
    pins: tuple[str, ...]
    name: str = "pins of the machine"

    def needed(self) -> bool:
        """Return whether others lie there."""
        return policy.read_pins(self.path) != list(self.pins)

    def apply(self) -> None:
        """Write them."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        HOST.put((json.dumps(self.pins, indent=2) + "\n").encode(), str(self.path))


@dataclass(frozen=True)
class ImagesRemoved:
    """The machine has no image of a lab's registries, except a sandbox image in use."""

    node: Node
    hosts: tuple[str, ...]
    name: str = "the demo's images are gone"

    def needed(self) -> bool:
        """Return whether it has one; a CRI-O that does not answer is asked nothing."""
        return bool(self._found())

    def apply(self) -> None:
        """Remove them over CRI."""
        from countersign.cri.client import Client

        with Client(self.node.forward(INSTALLED.socket)) as client:
            for image in self._found():
                client.remove_image(image)

    def _found(self) -> list[str]:
        from countersign.cri.client import Client
        from countersign.cri.errors import CriError

        if unit_state(self.node, CRIO).active != ACTIVE:
            return []
        try:
            with Client(self.node.forward(INSTALLED.socket), timeout=10) as client:
                return [
                    image.id
                    for image in client.list_images()
                    if any(name.startswith(f"{host}/") for name in (*image.tags, *image.digests) for host in self.hosts)
                ]
        except CriError:
            return []
