"""The steps that put a CRI-O under enforcement, and those that take it off again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from countersign.console.errors import InfrastructureError
from countersign.enforcement import reach
from countersign.nodes.files import stats
from countersign.nodes.node import CommandError
from countersign.nodes.steps import File, Folder, Group
from crio import render
from crio.credentials import Credentials
from crio.paths import Paths

if TYPE_CHECKING:
    from countersign.console.steps import Step
    from countersign.enforcement.additions import Addition
    from countersign.enforcement.layout import Layout
    from countersign.nodes.node import Node


class Runtime(Protocol):
    """What the steps need of a CRI-O."""

    @property
    def node(self) -> Node:
        """Where it runs."""

    @property
    def layout(self) -> Layout:
        """Where the gate's parts lie there."""

    @property
    def paths(self) -> Paths:
        """Where CRI-O's own files lie there."""

    @property
    def engine(self) -> render.Engine:
        """How strict its own engine is."""

    @property
    def program(self) -> str:
        """Its program there."""

    def wait_until_ready(self) -> None:
        """Return once containers can be made."""


def configuration(node: Node, layout: Layout, paths: Paths, hooks_dirs: Sequence[str], sandbox: str) -> list[File]:
    """Return the files by which CRI-O runs: hook and drop-in.

    Args:
        node: the node.
        layout: where the gate's parts lie there.
        paths: where CRI-O's own lie.
        hooks_dirs: the node's own folders of hooks.
        sandbox: the sandbox image by digest; empty leaves the node's own.
    """
    return [hook_file(node, layout, paths), File(node, paths.drop_in, render.drop_in(paths, hooks_dirs, sandbox))]


def hook_file(node: Node, layout: Layout, paths: Paths) -> File:
    """Return the step that puts our hook where CRI-O reads hooks."""
    return File(node, paths.hook, render.hook(layout))


def way_to_registries(
    node: Node, layout: Layout, paths: Paths, addition: Addition, *, private: bool = False
) -> list[Group]:
    """Return the step by which CRI-O and the gate find the registries of its addition; none where it has none.

    Args:
        node: the node.
        layout: where the gate's parts lie there.
        paths: where CRI-O's own lie.
        addition: what the place is given beside enforcement.
        private: CRI-O is all ours: short names lead there, too, and the gate knows the way already.
    """
    if not addition.urls:
        return []
    files = render.registry_files(node, paths, addition, short_names=private)
    hosts = [] if private else reach.hosts_files(node, layout.certs, addition.urls, addition.ca)
    logins = {addition.urls[name].partition("://")[2]: reach.basic(login) for name, login in addition.logins.items()}
    parts: list[Step] = [
        *render.folders([*files, *hosts]),
        *files,
        *hosts,
        Credentials(node, paths.auth, logins),
    ]
    return [Group(node, f"the way to the demo's registries ({paths.registries_conf})", parts)]


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

    machine: Runtime
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

    machine: Runtime
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
