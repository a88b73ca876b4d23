"""A runtime of this host that is all ours: its names and paths below the state folder, and the place that it is."""

from __future__ import annotations

import os
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypedDict

from countersign.console import output
from countersign.console.errors import MissingError
from countersign.console.steps import Stage, Step, run_steps
from countersign.enforcement import gate, teardown
from countersign.enforcement import layout as layouts
from countersign.enforcement.runtime import collect
from countersign.nodes import service
from countersign.nodes.host import HOST
from countersign.nodes.steps import File, Running
from countersign.runtimes.keeping import BySupervisors
from countersign.runtimes.machine import Machine
from countersign.runtimes.pins import content
from countersign.runtimes.place import Place
from countersign.runtimes.work import TOOLS, Work, work

if TYPE_CHECKING:
    from typing_extensions import Self

    from countersign.console.config import Settings
    from countersign.enforcement.additions import Lab
    from countersign.enforcement.layout import Layout
    from countersign.nodes.node import Node
    from countersign.nodes.service import State

HANDLERS = ("runc", "runc-alt")
"""The runtime handlers; there are two to show that each has the hook."""
HOST_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class PrivateMachine(Machine):
    """A runtime that set-up makes below one state folder; see `countersign.enforcement.teardown.Private`."""

    folder: ClassVar[str]
    """The folder below the state folder that is all its own."""
    tools: ClassVar[Sequence[str]]
    """What it runs with, beside gate and hook."""

    # What each runtime has to say for itself.

    @abstractmethod
    def require(self, settings: Settings) -> None:
        """Refuse what can't work. Raises MissingError, UsageError."""

    def folders(self) -> list[Step]:
        """Return the steps that make the folders which it needs before all else."""
        return []

    @abstractmethod
    def prepared(self, settings: Settings, programs: Mapping[str, Path], sandbox: str) -> Self:
        """Return it with what it is to be made of: its programs, and its sandbox image by digest."""

    # What all of them do.

    @property
    def services(self) -> Sequence[str]:
        """Everything supervised, in the order in which it starts."""
        return (*self.addition.services, "gate", self.room)

    @property
    def root(self) -> Path:
        """The folder that is all its own."""
        return self.state / self.folder

    @property
    def run(self) -> Path:
        """Where supervisors keep their files."""
        return Path(self.layout.run)

    @property
    def cgroup(self) -> str:
        """The cgroup of everything that belongs to it."""
        return self.cgroup_parent.strip("/").removesuffix("/pods")

    def states(self) -> list[State]:
        """Return how each supervised service is."""
        return [service.state(self.run, name) for name in self.services]

    @property
    def keeper(self) -> BySupervisors:
        """See `Machine.keeper`."""
        return BySupervisors(self.layout, self.room, self.addition, self.states(), self.setup())

    def sandbox(self) -> str:
        """Return the sandbox image that its addition brings. Raises MissingError when there is none."""
        found = self.addition.sandbox()
        if not found:
            where = f"a {self.title} of our own"
            raise MissingError("brings no sandbox image", where=where, do="set up one that has one")
        return found


class Placed(TypedDict):
    """The fields of `Machine` that a state folder says."""

    state: Path
    node: Node
    layout: Layout
    handlers: Sequence[str]
    pins: Path
    cgroup_parent: str


def placed(state: Path, folder: str, suffix: str = "") -> Placed:
    """Return where a private runtime lies; however the state folder is spelled, it is the same.

    Args:
        state: the state folder.
        folder: below it, the runtime's own.
        suffix: of its cgroup, by which runtimes of one state folder are told apart.

    Raises:
        UsageError: the folder's path is too long for sockets.
    """
    state = state.resolve()
    return {
        "state": state,
        "node": HOST,
        "layout": layouts.host(state, folder),
        "handlers": HANDLERS,
        "pins": state / folder / "pins.json",
        "cgroup_parent": f"/{layouts.instance(state)}{suffix}/pods",
    }


def steps(given: Work[PrivateMachine]) -> list[Step]:
    """Return every step for a private runtime, in order: what it is given beside, the gate, the runtime."""
    machine = given.machine
    return [
        *machine.addition.prepared(),
        *gate.steps(given.gate),
        *machine.folders(),
        File(machine.node, str(machine.pins), content(given.pins)),
        *given.policies(),
        *machine.addition.running(),
        *machine.way(),
        Running(gate.service(given.gate, machine.cgroup)),
        *machine.configured(gate.written(given.gate)),
    ]


class PrivatePlace(Place):
    """See `Place`."""

    def __init__(self, settings: Settings, lab: Lab, machine: PrivateMachine) -> None:
        from dataclasses import replace

        addition = lab.for_host(settings, machine.layout, machine.cgroup, machine.root)
        self._machine = replace(machine, addition=addition)
        super().__init__(settings, addition, type(machine))

    def look(self) -> None:
        """See `Place.look`."""
        if os.geteuid() != 0:
            title = self.adapter.title
            raise MissingError(f"{title} needs root", do=f"run it as root (sudo {self.adapter.setup()} --on host)")
        self._machine.require(self.settings)

    def exists(self) -> bool:
        """See `Place.exists`."""
        return self._machine.root.exists()

    def stages(self) -> Sequence[Stage]:
        """See `Place.stages`."""
        return [Stage(lambda: steps(self.works[0]))]

    def give(self) -> Sequence[Work[PrivateMachine]]:
        """See `Place.give`."""
        return [made_of(self.settings, self._machine)]

    def _foresee(self) -> None:
        """Say nothing: what it will run is still to come."""

    def members(self) -> Sequence[Machine]:
        """See `Place.members`."""
        return [self._machine]

    def teardown(self) -> Sequence[Step]:
        """See `Place.teardown`. Raises MissingError when there is something to clean and we are not root."""
        teardown.check(self._machine)
        return teardown.steps(self._machine)

    def what(self) -> str:
        """See `Place.what`."""
        return str(self._machine.root)

    def undo(self, _error: BaseException) -> None:
        """See `Place.undo`; its logs are copied first."""
        if not self._machine.root.exists():
            return
        state = self._machine.state
        kept = collect(self._machine, state / "artifacts" / time.strftime("setup-%Y%m%dT%H%M%S"))
        run_steps(self.teardown())
        output.say(f"artifacts   {kept}")


def made_of(settings: Settings, machine: PrivateMachine) -> Work[PrivateMachine]:
    """Get every tool and image, and work out all that a private runtime is given.

    Raises:
        InfrastructureError: someone else has a port of ours, or a build failed.
        MissingError: something that a build needs is not there, or there is no sandbox image.
    """
    from countersign.tools.resolver import install

    programs = install((*machine.tools, *TOOLS), settings)
    sandbox = machine.sandbox()
    ready = machine.prepared(settings, programs, sandbox)
    coming = machine.addition.keys_to_come()
    return work(settings, ready, (sandbox,), programs, keys_to_come=coming)
