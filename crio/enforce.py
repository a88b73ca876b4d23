"""The steps that put a CRI-O under enforcement, and those that take it off again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from countersign.console.errors import InfrastructureError
from countersign.enforcement import reach
from countersign.enforcement.policy import Policy
from countersign.nodes.files import stats
from countersign.nodes.node import CommandError
from countersign.nodes.steps import File, Folder, Group
from crio import render
from crio.credentials import Credentials
from crio.machine import Machine

if TYPE_CHECKING:
    from countersign.console.steps import Step
    from countersign.nodes.node import Node


@dataclass(frozen=True)
class Work:
    """All that one CRI-O is given.

    Attributes:
        machine: the CRI-O.
        policy: the user's policy.yaml.
        pins: what set-up pins, by digest.
        tags: names by tag of what is pinned.
        sandbox: the sandbox image by digest; empty leaves the node's own.
        hooks_dirs: the node's own folders of hooks.
        keys_to_come: an earlier step makes the keys that the policy names.
        private: CRI-O is all ours.
    """

    machine: Machine
    policy: Path
    pins: Sequence[str]
    tags: Sequence[str]
    sandbox: str
    hooks_dirs: Sequence[str]
    keys_to_come: bool = False
    private: bool = False


def steps(work: Work, gate_runs: Step, runtime: Callable[[Sequence[File]], Step]) -> list[Step]:
    """Return the steps after `countersign.enforcement.gate.steps`; nothing restarts before all that it reads is there.

    Args:
        work: what is to be brought about.
        gate_runs: makes the gate run.
        runtime: given CRI-O's files, makes it run by them.
    """
    machine, paths, layout = work.machine, work.machine.paths, work.machine.layout
    configuration = [
        hook_file(work.machine),
        File(machine.node, paths.drop_in, render.drop_in(paths, work.hooks_dirs, work.sandbox)),
    ]
    return [
        *way_to_registries(work.machine, private=work.private),
        Policy(machine.node, layout, work.policy, tuple(work.pins), keys_to_come=work.keys_to_come),
        native_policy(work),
        gate_runs,
        runtime(configuration),
    ]


def hook_file(machine: Machine) -> File:
    """Return the step that puts our hook where CRI-O reads hooks."""
    return File(machine.node, machine.paths.hook, render.hook(machine.layout))


def native_policy(work: Work) -> NativePolicy:
    """Return the step that gives CRI-O's own engine its policy."""
    tags = tuple(work.tags)
    return NativePolicy(work.machine, work.policy, tuple(work.pins), tags, keys_to_come=work.keys_to_come)


def way_to_registries(machine: Machine, *, private: bool = False) -> list[Group]:
    """Return the step by which CRI-O and the gate find the registries of its addition; none where it has none.

    Args:
        machine: the CRI-O.
        private: CRI-O is all ours: short names lead there, too, and the gate knows the way already.
    """
    paths, addition = machine.paths, machine.addition
    if not addition.urls:
        return []
    files = render.registry_files(machine.node, paths, addition, short_names=private)
    hosts = [] if private else reach.hosts_files(machine.node, machine.layout.certs, addition.urls, addition.ca)
    logins = {addition.urls[name].partition("://")[2]: reach.basic(login) for name, login in addition.logins.items()}
    parts: list[Step] = [
        *render.folders([*files, *hosts]),
        *files,
        *hosts,
        Credentials(machine.node, paths.auth, logins),
    ]
    return [Group(machine.node, f"the way to the demo's registries ({paths.registries_conf})", parts)]


@dataclass(frozen=True)
class NativePolicy:
    """CRI-O's own engine has the policy in its form, with keys and the place of signatures.

    Attributes:
        machine: the CRI-O.
        source: the policy.yaml.
        pins: of the set-up, by digest.
        tags: names by tag of what is pinned.
        keys_to_come: a step before this one makes the keys that the policy names.
    """

    machine: Machine
    source: Path
    pins: tuple[str, ...]
    tags: tuple[str, ...] = ()
    keys_to_come: bool = False

    @property
    def name(self) -> str:
        """What users read."""
        return f"CRI-O's own policy ({self.machine.paths.policy})"

    def _group(self) -> Group:
        paths, node = self.machine.paths, self.machine.node
        found = render.native(self.source, paths, self.pins, self.machine.engine, self.tags)
        files = found.files(node, paths)
        return Group(node, self.name, [*render.folders(files), Folder(node, paths.namespaces, 0o700), *files])

    def laid_out(self) -> list[Group]:
        """See `countersign.enforcement.record.LaysOut`."""
        return [self._group()]

    def needed(self) -> bool:
        """Return whether the node has another one."""
        return self.keys_to_come or self._group().needed()

    def apply(self) -> None:
        """Put it there; CRI-O reads it anew for each pull and each container."""
        self._group().apply()

    def diff(self) -> str:
        """Return how the node's files would change; see `countersign.console.steps.ShowsDiff`."""
        return "" if self.keys_to_come else self._group().diff()


@dataclass(frozen=True)
class Configured:
    """CRI-O runs by our configuration; if it does not come back, the old one is put back.

    Attributes:
        machine: the CRI-O.
        files: its drop-in and the hook.
        runs: makes it run by them.
        ran_before: there is an old configuration, by which it ran.
    """

    machine: Machine
    files: Sequence[File] = field(repr=False)
    runs: Step = field(repr=False)
    ran_before: bool = True

    @property
    def name(self) -> str:
        """What users read."""
        return f"CRI-O by our settings in {self.machine.paths.drop_in}"

    def _group(self) -> Group:
        return Group(self.machine.node, self.name, [*render.folders(self.files), *self.files])

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
                self.machine.node.run([self.machine.crio, "config"], timeout=30)
            except CommandError as error:
                raise InfrastructureError(
                    f"CRI-O does not read our settings: {error.found}", where=self.machine.node.name
                ) from error


def _put_back(node: Node, path: str, content: bytes | None) -> None:
    if content is None:
        node.run(["rm", "-f", "--", path])
    else:
        node.put(content, path)
