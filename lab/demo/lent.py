"""The demo's registries on this machine, lent to machines elsewhere: they reach them through their own node's `expose`.

One pair serves every machine over SSH, for either runtime; it is gone with the last that uses it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from countersign.console.config import record_place, recorded_place
from countersign.console.errors import InfrastructureError
from countersign.enforcement import canary
from countersign.enforcement.layout import Layout
from countersign.nodes import service
from countersign.nodes.host import HostNode
from countersign.nodes.service import Service
from countersign.nodes.steps import File, Folder, Group
from lab.demo import images, registries
from lab.demo.registries import CANARY, FALLBACK, REFERRERS, SERVICES, Registries

if TYPE_CHECKING:
    from countersign.console.config import Settings
    from countersign.console.steps import Step
    from countersign.nodes.node import Node
    from countersign.oci.registry import Registry

NAMES = {REFERRERS: REFERRERS, CANARY: REFERRERS, FALLBACK: FALLBACK}
"""The names that machines are given → the registry behind each; Docker Hub stays what it is there."""
PROGRAMS = {REFERRERS: "registry", FALLBACK: "registry-fallback"}
PAUSE = f"{REFERRERS}/system/pause"
PAUSE_TAG = "countersign"


@dataclass(frozen=True)
class Lent:
    """The registries of one state folder.

    Attributes:
        settings: the user's.
        home: what is all theirs.
        made: their credentials and certificates; nothing is written before a step does it.
    """

    settings: Settings
    home: Path
    made: Registries = field(repr=False)

    def steps(self, user: str) -> list[Step[Node]]:
        """Return the steps that start them, and push what set-up needs; all of them work on this machine.

        Args:
            user: who uses them from now on, such as ``containerd-HOST``: one folder name.
        """
        from countersign.tools.images import pause_layout
        from countersign.tools.resolver import install

        registries.check_ports(self.made, Path(self._layout.run))
        programs = install((*PROGRAMS.values(), "pause", "demo"), self.settings)
        running = registries.services(self.made, self._layout, "", programs)
        layout = self._layout
        folders = [Folder(str(path), 0o700) for path in (self.home, layout.run, layout.log, layout.etc, self._users)]
        config = registries.docker_config(self.made, self.settings.registry.docker_config)
        files = [File(f"{layout.etc}/docker.json", config, 0o600), File(str(self._users / user), b"")]
        pause, marked = pause_layout(self.settings), self._canary()
        return [
            Group(f"this machine's way to the demo's registries ({layout.etc})", [*folders, *files]),
            *registries.steps(self.made, layout, running),
            images.Pushed(self.registry, PAUSE, PAUSE_TAG, pause, self._up),
            *(
                images.Pushed(self.registry, repository, canary.TAG, marked, self._up)
                for repository in (canary.REPOSITORY, canary.REFUSED)
            ),
        ]

    def sandbox(self) -> str:
        """Return the pause image by digest, for machines that have no sandbox image of their own yet."""
        from countersign.tools.images import pause_layout

        return f"{PAUSE}@{images.digest(pause_layout(self.settings))}"

    def images(self) -> frozenset[str]:
        """Return the digests of the canary, which the demo alone has."""
        return frozenset({images.digest(self._canary())})

    def urls(self, node: Node) -> dict[str, str]:
        """Return registry name → where a machine reaches it, as long as its node is open."""
        there = {host: node.expose(self.made.ports[host]).partition("://")[2] for host in SERVICES}
        return {name: f"{'https' if host == FALLBACK else 'http'}://{there[host]}" for name, host in NAMES.items()}

    def registry(self) -> Registry:
        """Return a client of them, as this machine reaches them."""
        from countersign.oci.registry import Registry

        etc = Path(self._layout.etc)
        return Registry(etc / "certs.d", etc / "docker.json", allow_http=self.settings.registry.allow_http)

    def states(self) -> list[service.State]:
        """Return how each of them is."""
        return [service.state(Path(self._layout.run), name) for name in SERVICES.values()]

    def require_up(self) -> None:
        """Raise InfrastructureError unless both run."""
        for found in self.states():
            if found.state != "running":
                raise InfrastructureError(f"{found.name} is {found.state}", where=str(self.home), do="run set-up again")

    @contextmanager
    def stopped(self, host: str) -> Iterator[None]:
        """Keep one of them stopped."""
        run, name = Path(self._layout.run), SERVICES[host]
        spec = Service.from_json((run / f"{name}.json").read_text(encoding="utf-8"))
        service.stop(run, name)
        try:
            yield
        finally:
            service.start(spec)

    def log(self, name: str) -> Path:
        """Return where the log of ``registry`` or ``registry-fallback`` is."""
        return Path(f"{self._layout.log}/{name}.log")

    def used_by(self, user: str) -> bool:
        """Return whether that one uses them."""
        return (self._users / user).exists()

    def give_back(self, user: str) -> None:
        """Have one use them no longer; after the last, nothing of them stays."""
        (self._users / user).unlink(missing_ok=True)
        if self._users.is_dir() and any(self._users.iterdir()):
            return
        for name in SERVICES.values():
            service.stop(Path(self._layout.run), name)
        shutil.rmtree(self.home, ignore_errors=True)

    @property
    def _layout(self) -> Layout:
        home = str(self.home)
        nowhere = Layout(*(f"{home}/none" for _ in range(7)))
        return replace(nowhere, etc=f"{home}/etc", certs=f"{home}/etc/certs.d", run=f"{home}/run", log=f"{home}/log")

    @property
    def _users(self) -> Path:
        return self.home / "users"

    def _up(self) -> bool:
        return self.states()[0].state == "running"

    def _canary(self) -> Path:
        from countersign.oci.build import variant
        from countersign.tools.images import demo_layout

        made = self.settings.cache / "canary" / images.digest(demo_layout(self.settings)).replace(":", "-")
        if not (made / "index.json").is_file():
            variant(demo_layout(self.settings), "canary", made)
        return made


def lent(settings: Settings) -> Lent:
    """Return the registries that a state folder lends, those of an earlier set-up or new ones; writes nothing."""
    home = folder(settings.state)
    return Lent(settings, home, registries.load_or_make(home / "registry"))


def folder(state: Path) -> Path:
    """Return where everything about them is kept on this machine."""
    return state.resolve() / "lent"


@dataclass(frozen=True)
class Here:
    """A step of this machine among those of another one."""

    step: Step[Node]

    @property
    def name(self) -> str:
        """What users read."""
        return self.step.name

    def needed(self, node: object) -> bool:  # noqa: ARG002
        """Return whether this machine lacks it."""
        return self.step.needed(HostNode())

    def apply(self, node: object) -> None:  # noqa: ARG002
        """Make the change here."""
        self.step.apply(HostNode())


@dataclass(frozen=True)
class GivenBack:
    """This machine keeps nothing about the other one, and lends it nothing.

    Attributes:
        settings: the user's.
        lent: the registries.
        user: who used them.
        kept: files on this machine about the other one.
        room: the runtime whose place it was.
    """

    settings: Settings
    lent: Lent = field(repr=False)
    user: str
    kept: tuple[Path, ...]
    room: str
    name: str = "the demo's registries are given back"

    def needed(self, node: object) -> bool:  # noqa: ARG002
        """Return whether anything is kept."""
        return self.lent.used_by(self.user) or any(path.exists() for path in self.kept) or self._recorded

    def apply(self, node: object) -> None:  # noqa: ARG002
        """Forget it."""
        self.lent.give_back(self.user)
        for path in self.kept:
            path.unlink(missing_ok=True)
            if path.parent.is_dir() and not any(path.parent.iterdir()):
                path.parent.rmdir()
        if self._recorded:
            record_place(self.settings.state, "", self.room)

    @property
    def _recorded(self) -> bool:
        return recorded_place(self.settings.state, self.room) == self.settings.node
