"""The lab's word on what each place is given; `tasks.py` offers it to the runtimes."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from countersign.console.config import Settings
from countersign.console.steps import Change, Step
from countersign.enforcement import reach
from countersign.enforcement.additions import NOTHING, Addition, Lab
from countersign.enforcement.layout import Layout
from countersign.nodes.host import HOST
from countersign.nodes.node import Node
from countersign.nodes.steps import File, Folder, Group
from countersign.runtimes.private import PrivateMachine
from kind import cluster as clusters
from kind import engine
from lab.demo import kind_registry, registries
from lab.demo.given import TOOLS, Given
from lab.demo.host import HostDemo
from lab.demo.kind_registry import URLS
from lab.demo.registries import REFERRERS, SERVICES
from lab.demo.remote import NAMES, remote_demo

if TYPE_CHECKING:
    MachineT = TypeVar("MachineT", bound=PrivateMachine)
    from docker import DockerClient


class Demo(Lab):
    """See `countersign.enforcement.additions.Lab`."""

    names = tuple(NAMES)

    def for_host(self, settings: Settings, layout: Layout, cgroup: str, root: Path) -> HostDemo:
        """See `Lab.for_host`."""
        return HostDemo(settings, registries.load_or_make(root / "registry"), layout, cgroup)

    def for_cluster(self, settings: Settings) -> ClusterDemo:
        """See `Lab.for_cluster`."""
        return ClusterDemo(settings, kind_registry.load_or_make(settings))

    def for_machine(self, settings: Settings, node: Node, room: str, *, asked: bool) -> Addition:
        """See `Lab.for_machine`."""
        found = remote_demo(settings, node, f"{room}-{node.name}")
        return found if asked or found.used() else NOTHING


DEMO = Demo()


def with_demo(settings: Settings, ours: MachineT) -> MachineT:
    """Return a private runtime of this host with the demo beside it."""
    return replace(ours, addition=DEMO.for_host(settings, ours.layout, ours.cgroup, ours.root))


@dataclass(frozen=True)
class ClusterDemo(Given):
    """See `countersign.enforcement.additions.Addition`; Docker keeps these registries running, and has their logs."""

    urls = URLS
    names = tuple(URLS)
    services = ()

    @property
    def etc(self) -> Path:
        """See `Given.etc`."""
        return clusters.folder(self.settings) / "etc"

    def prepared(self) -> Sequence[Step]:
        """See `Addition.prepared`."""
        urls = kind_registry.urls_for_host(self.made)
        hosts = reach.hosts_files(HOST, f"{self.etc}/certs.d", urls, self.ca)
        folders = [Folder(HOST, f"{self.made.folder}", 0o700), Folder(HOST, str(self.etc), 0o700)]
        folders += [Folder(HOST, file.path.rpartition("/")[0]) for file in hosts]
        config = reach.docker_config(self.settings.registry.docker_config, self.logins)
        files = [registries.kept(self.made), *hosts, File(HOST, f"{self.etc}/docker.json", config, 0o600)]
        return [self.keys, Group(HOST, f"this machine's way to the demo's registries ({self.etc})", [*folders, *files])]

    def running(self) -> Sequence[Step]:
        """See `Addition.running`."""
        from countersign.tools.resolver import install

        programs = install(TOOLS, self.settings)
        cluster, network = self.settings.kind.cluster, clusters.network(self.settings)
        containers = [
            kind_registry.Runs(host, cluster, self.made, programs[tool], network, self._docker)
            for host, tool in SERVICES.items()
        ]
        return [*containers, *self.pushes()]

    def released(self) -> Sequence[Step]:
        """See `Addition.released`."""
        return [Change("the demo's registries are removed", self.made.folder.exists, self._remove)]

    def _remove(self) -> None:
        """Remove the registries with all that they hold, and what is kept of them on this machine."""
        kind_registry.remove(self._docker(), self.settings.kind.cluster)
        for path in (self.etc, self.made.folder):
            shutil.rmtree(path, ignore_errors=True)

    def up(self) -> bool:
        """See `Given.up`."""
        return kind_registry.runs(self._docker(), self.settings.kind.cluster, REFERRERS)

    def stopped(self, registry: str) -> AbstractContextManager[None]:
        """See `Addition.stopped`."""
        return kind_registry.stopped(self._docker(), self.settings.kind.cluster, registry)

    def _docker(self) -> DockerClient:
        return engine.docker_client(self.settings)
