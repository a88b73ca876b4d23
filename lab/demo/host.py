"""The demo beside a private runtime of this host: registries on loopback, which live and end with the runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from countersign.console.steps import Step
from countersign.enforcement.layout import Layout
from countersign.nodes import service
from countersign.nodes.service import State
from lab.demo import registries
from lab.demo.given import TOOLS, Given
from lab.demo.registries import FALLBACK, MAPPED, REFERRERS, SERVICES


@dataclass(frozen=True)
class HostDemo(Given):
    """See `countersign.enforcement.additions.Addition`.

    Attributes:
        layout: where the runtime's parts lie; logs and run files go there, too.
    """

    layout: Layout
    cgroup: str

    names: ClassVar[Sequence[str]] = (*MAPPED, FALLBACK)

    @property
    def etc(self) -> Path:
        """See `Given.etc`: the runtime's own way is this machine's."""
        return Path(self.layout.etc)

    @property
    def urls(self) -> Mapping[str, str]:
        """See `Addition.urls`."""
        return {name: self.made.url(FALLBACK if name == FALLBACK else REFERRERS) for name in self.names}

    def prepared(self) -> Sequence[Step]:
        """See `Addition.prepared`."""
        return [self.keys]

    def running(self) -> Sequence[Step]:
        """See `Addition.running`; a port that someone else has is told now."""
        from countersign.tools.resolver import install

        registries.check_ports(self.made, Path(self.layout.run))
        programs = install(TOOLS, self.settings)
        running = registries.services(self.made, self.layout, self.cgroup, programs)
        return [*registries.steps(self.made, self.layout, running), *self.pushes()]

    def states(self) -> Sequence[State]:
        """See `Addition.states`."""
        return [service.state(Path(self.layout.run), name) for name in self.services]

    def log(self, name: str) -> Path:
        """See `Addition.log`."""
        return Path(f"{self.layout.log}/{name}.log")

    def up(self) -> bool:
        """See `Given.up`."""
        return service.state(Path(self.layout.run), SERVICES[REFERRERS]).state == "running"

    def stopped(self, registry: str) -> AbstractContextManager[None]:
        """See `Addition.stopped`."""
        return registries.stopped(Path(self.layout.run), registry)
