"""CRI-O, wherever and however it is kept running: what it has to say for itself beside every other runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countersign.console.config import Settings
from countersign.console.errors import InfrastructureError
from countersign.enforcement import reach
from countersign.enforcement.gate import CrioStorage
from countersign.nodes.files import stats
from countersign.nodes.node import CommandError
from countersign.nodes.steps import File, Folder, Group
from countersign.runtimes.machine import Machine
from crio import render
from crio.credentials import Credentials
from crio.paths import INSTALLED, Paths

if TYPE_CHECKING:
    from countersign.console.steps import Step
    from countersign.enforcement.node_files import Written
    from countersign.enforcement.policy import Policy
    from countersign.nodes.node import Node
    from crio.render import Engine

UNIT = "crio.service"


@dataclass(frozen=True)
class Crio(Machine):
    """See `countersign.runtimes.machine.Machine`.

    Attributes:
        paths: where CRI-O's own files lie there.
        engine: how strict its own engine is.
        tags: names by tag of what set-up pinned, which its own engine lets pass.
        settings: by which the gate is found that renders its own engine's policy.
    """

    paths: Paths = INSTALLED
    engine: Engine = "strict"
    tags: Sequence[str] = ()
    settings: Settings = field(default_factory=Settings, repr=False, compare=False)

    room = "crio"
    title = "CRI-O"
    verb = "configure"
    status = "countersign.crio-status/v1"
    unit = UNIT
    answers_within = 120.0
    """An emulated machine takes one of the two minutes."""
    private = False
    """It is all ours: short names lead to a lab's registries, too, and the gate knows the way to them already."""

    @property
    def socket(self) -> str:
        """See `Machine.socket`."""
        return self.paths.socket

    @property
    def crio_socket(self) -> str:
        """See `Machine.crio_socket`."""
        return self.paths.socket

    def own_files(self) -> Sequence[str]:
        """See `Machine.own_files`."""
        return (self.paths.policy, self.paths.drop_in, self.paths.hook)

    def prove_options(self) -> list[str]:
        """See `Machine.prove_options`."""
        return ["--crio-socket", self.socket, "--crio-certs", self.paths.certs, *super().prove_options()]

    def storage(self) -> tuple[str, str]:
        """Return graph root and run root of containers/storage."""
        return self.paths.storage, self.paths.run_storage

    @property
    def in_effect(self) -> Mapping[str, Any]:
        """The table ``crio`` of its configuration, without ours."""
        return {}

    @property
    def sandbox_by_digest(self) -> str:
        """Its sandbox image; empty where it was not looked for yet."""
        return ""

    def gate_options(self) -> Mapping[str, Any]:
        """See `Machine.gate_options`."""
        sandbox = self.sandbox_by_digest
        told = {"config": self.in_effect, "sandbox": sandbox, "dropIn": self.paths.drop_in} if sandbox else None
        return {"crio": CrioStorage(*self.storage(), self.paths.nri, self.socket), "told": told}

    def way(self) -> list[Group]:
        """See `Machine.way`."""
        addition = self.addition
        if not addition.urls:
            return []
        files = render.registry_files(self.node, self.paths, addition, short_names=self.private)
        hosts = [] if self.private else reach.hosts_files(self.node, self.layout.certs, addition.urls, addition.ca)
        places = {name: url.partition("://")[2] for name, url in addition.urls.items()}
        logins = {places[name]: reach.basic(login) for name, login in addition.logins.items()}
        parts: list[Step] = [
            *render.folders([*files, *hosts], self.layout),
            *files,
            *hosts,
            Credentials(self.node, self.layout, self.paths.auth, logins),
        ]
        return [Group(self.node, f"the way to the demo's registries ({self.paths.registries_conf})", parts)]

    def own_policy(self, policy: Policy) -> list[Step]:
        """See `Machine.own_policy`."""
        return [NativePolicy(self, policy)]

    def native(self, source: Path, pins: Sequence[str]) -> list[File]:
        """Return what its own engine is given for a policy.yaml, the policy last.

        Args:
            source: the policy.yaml.
            pins: what set-up pinned beside it, ``repository@digest``.

        Raises:
            UsageError: the policy is invalid.
            MissingError: there is no gate to render it.
        """
        from countersign.policy import crio
        from countersign.policy.load import load

        lenient = self.engine == "lenient"
        rendered = crio.render(load(source), self.settings, pins=pins, tags=self.tags, lenient=lenient)
        return render.native(self.node, self.paths, rendered)

    def remembered(self, written: Written) -> list[Step]:
        """See `Machine.remembered`."""
        return [file for file in self.configuration(written) if file.path == self.paths.hook]

    def configuration(self, written: Written) -> list[File]:
        """Return the files by which it runs: hook and drop-in."""
        return [File(self.node, path, content) for path, content in written.crio.items()]

    def fetch(self, reference: str) -> None:
        """See `Machine.fetch`: CRI-O has no way past its own engine, so it pulls; the gate has no say then."""
        with self.client() as client:
            client.pull(reference, self.credentials(reference))

    def forget(self, *references: str) -> None:
        """See `Machine.forget`: each with all its names, for CRI-O forgets no single one."""
        with self.client() as client:
            for reference in references:
                client.remove_image(reference)


def engine_of(settings: Settings) -> Engine:
    """Return how strict the settings want CRI-O's own engine."""
    return "lenient" if settings.crio.engine == "lenient" else "strict"


@dataclass(frozen=True)
class NativePolicy:
    """CRI-O's own engine has the policy in its form, and the place of signatures.

    Attributes:
        machine: the CRI-O.
        policy: what the gate is given.
    """

    machine: Crio
    policy: Policy

    @property
    def name(self) -> str:
        """What users read."""
        return f"CRI-O's own policy ({self.machine.paths.policy})"

    def _group(self) -> Group:
        paths, node = self.machine.paths, self.machine.node
        files = self.machine.native(self.policy.source, self.policy.pins)
        folders = [*render.folders(files, self.machine.layout), Folder(node, paths.namespaces, 0o700)]
        return Group(node, self.name, [*folders, *files])

    def laid_out(self) -> list[Group]:
        """See `countersign.enforcement.record.LaysOut`."""
        return [self._group()]

    def needed(self) -> bool:
        """Return whether the node has another one."""
        return self.policy.keys_to_come or self._group().needed()

    def apply(self) -> None:
        """Put it there; CRI-O reads it anew for each pull and each container."""
        self._group().apply()

    def diff(self) -> str:
        """Return how the node's files would change; see `countersign.console.steps.ShowsDiff`."""
        return "" if self.policy.keys_to_come else self._group().diff()


@dataclass(frozen=True)
class Configured:
    """CRI-O runs by our configuration; if it does not come back, the old one is put back.

    Attributes:
        machine: the CRI-O.
        files: its drop-in and the hook.
        runs: makes it run by them.
        ran_before: there is an old configuration, by which it ran.
    """

    machine: Crio
    files: Sequence[File] = field(repr=False)
    runs: Step = field(repr=False)
    ran_before: bool = True

    @property
    def name(self) -> str:
        """What users read."""
        return f"CRI-O by our settings in {self.machine.paths.drop_in}"

    def _group(self) -> Group:
        folders = render.folders(self.files, self.machine.layout)
        return Group(self.machine.node, self.name, [*folders, *self.files])

    def needed(self) -> bool:
        """Return whether a file differs, or CRI-O has not read it."""
        return self._group().needed() or self.runs.needed()

    def diff(self) -> str:
        """Return how the node's files would change; see `countersign.console.steps.ShowsDiff`."""
        return self._group().diff()

    def apply(self) -> None:
        """Write, let CRI-O itself read it, restart, and wait until it answers and has the gate as its plugin.

        Raises:
            InfrastructureError: CRI-O does not read it, or did not come back and runs as before.
        """
        paths = [file.path for file in self.files]
        seen = stats(self.machine.node, paths)
        before = {path: self.machine.node.get(path) if path in seen else None for path in paths}
        try:
            self._group().apply()
            self._check()
            self.runs.apply()
            self.machine.wait_until_ready()
        except InfrastructureError as error:
            changed = [file.path for file in self.files if before[file.path] != file.content]
            if not changed or not self.ran_before:
                raise
            for path in changed:
                _put_back(self.machine.node, path, before[path])
            self.runs.apply()
            raise InfrastructureError(
                f"CRI-O did not come back ({error.found}); it runs by its old configuration again",
                where=f"{self.machine.node.name}: {self.machine.paths.drop_in}",
                do="read CRI-O's log there",
            ) from error

    def _check(self) -> None:
        """Let CRI-O itself read the configuration before it has to live by it."""
        if self.machine.paths.drop_in.startswith("/etc/crio/"):
            try:
                self.machine.node.run([self.machine.program, "config"], timeout=30)
            except CommandError as error:
                raise InfrastructureError(
                    f"CRI-O does not read our settings: {error.found}", where=self.machine.node.name
                ) from error


def _put_back(node: Node, path: str, content: bytes | None) -> None:
    if content is None:
        node.run(["rm", "-f", "--", path])
    else:
        node.put(content, path)
