"""The demo's registries on this machine, shared with machines over SSH: they reach them through their node's `expose`.

One pair serves every machine over SSH, for either runtime; it is removed with the last that uses it.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from countersign.console.config import Settings
from countersign.console.errors import InfrastructureError
from countersign.console.steps import Change, Step
from countersign.enforcement import reach
from countersign.enforcement.layout import Layout
from countersign.nodes import service
from countersign.nodes.host import HOST
from countersign.nodes.node import Node
from countersign.nodes.steps import File, Folder, Group
from countersign.oci.access import remote_folder
from lab.demo import registries
from lab.demo.given import TOOLS
from lab.demo.host import HostDemo
from lab.demo.registries import FALLBACK, REFERRERS, SERVICES, Registries

_ONE_AT_A_TIME = threading.RLock()
_NEW: dict[Path, Registries] = {}
"""State folder → its registries: machines that are set up side by side get the same ones, also before any is kept."""
NAMES = {REFERRERS: REFERRERS, FALLBACK: FALLBACK}
"""The names that machines are given → the registry behind each; Docker Hub stays what it is there."""


@dataclass(frozen=True)
class RemoteDemo(HostDemo):
    """See `countersign.enforcement.additions.Addition`.

    Attributes:
        home_folder: what is all theirs, for all machines.
        user: who uses them, such as ``containerd-HOST``: one folder name.
    """

    home_folder: Path
    node: Node = field(repr=False)
    user: str

    names: ClassVar[Sequence[str]] = tuple(NAMES)

    @cached_property
    def urls(self) -> Mapping[str, str]:
        """See `Addition.urls`; they are exposed on the machine as long as its node is open."""
        there = {host: self.node.expose(self.made.ports[host]).partition("://")[2] for host in SERVICES}
        return {name: f"{'https' if host == FALLBACK else 'http'}://{there[host]}" for name, host in NAMES.items()}

    def prepared(self) -> Sequence[Step]:
        """See `Addition.prepared`."""
        return [Once(self.keys)]

    def running(self) -> Sequence[Step]:
        """See `Addition.running`; a port that someone else has is told now."""
        from countersign.tools.resolver import install

        layout = self.layout
        registries.check_ports(self.made, Path(layout.run))
        running = registries.services(self.made, layout, "", install(TOOLS, self.settings))
        folders = [Folder(HOST, str(path), 0o700) for path in (self.home_folder, layout.run, layout.log, layout.etc)]
        config = reach.docker_config(self.settings.registry.docker_config, self.logins)
        files = [File(HOST, f"{layout.etc}/docker.json", config, 0o600), File(HOST, str(self._users / self.user), b"")]
        parts: list[Step] = [*folders, Folder(HOST, str(self._users), 0o700), *files]
        way = Group(HOST, f"this machine's way to the demo's registries ({layout.etc})", parts)
        steps: list[Step] = [way, *registries.steps(self.made, layout, running), *self.pushes()]
        return [Once(step) for step in steps]

    def released(self) -> Sequence[Step]:
        """See `Addition.released`."""
        return [Change("the demo's registries are given back", self.used, self.release)]

    def require_up(self) -> None:
        """See `Addition.require_up`."""
        for found in self.states():
            if found.state != "running":
                where, do = str(self.home_folder), "run set-up again"
                raise InfrastructureError(f"{found.name} is {found.state}", where=where, do=do)

    def used(self) -> bool:
        """Return whether this one uses them."""
        return (self._users / self.user).exists()

    def release(self) -> None:
        """Use them no longer; after the last, nothing of them stays."""
        with _ONE_AT_A_TIME:
            (self._users / self.user).unlink(missing_ok=True)
            if self._users.is_dir() and any(self._users.iterdir()):
                return
            for name in self.services:
                service.stop(Path(self.layout.run), name)
            shutil.rmtree(self.home_folder, ignore_errors=True)

    @property
    def _users(self) -> Path:
        return self.home_folder / "users"


def remote_demo(settings: Settings, node: Node, user: str) -> RemoteDemo:
    """Return the registries that a state folder shares, those of an earlier set-up or new ones; writes nothing."""
    home = folder(settings.state)
    with _ONE_AT_A_TIME:
        if (home / "registry" / "registries.json").is_file() or home not in _NEW:
            _NEW[home] = registries.load_or_make(home / "registry")
    nowhere = Layout(*(f"{home}/none" for _ in range(7)))
    layout = replace(nowhere, etc=f"{home}/etc", certs=f"{home}/etc/certs.d", run=f"{home}/run", log=f"{home}/log")
    return RemoteDemo(settings, _NEW[home], layout, "", home, node, user)


def folder(state: Path) -> Path:
    """Return where everything about them is kept on this machine."""
    return remote_folder(state.resolve())


@dataclass(frozen=True)
class Once:
    """A step of this machine that several machines have in their lists: the first to come makes the change."""

    step: Step

    @property
    def name(self) -> str:
        """What users read."""
        return self.step.name

    def needed(self) -> bool:
        """Return whether this machine lacks it."""
        return self.step.needed()

    def apply(self) -> None:
        """Make the change, unless it was made meanwhile."""
        with _ONE_AT_A_TIME:
            if self.step.needed():
                self.step.apply()
