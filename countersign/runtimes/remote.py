"""A runtime under systemd on a machine over SSH, the Vagrant machine too, as a place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from countersign.console import output
from countersign.console.config import record_place, recorded_place
from countersign.console.errors import InfrastructureError
from countersign.console.steps import Stage, Step, run_steps
from countersign.enforcement import record
from countersign.runtimes import pins
from countersign.runtimes.place import Place
from countersign.runtimes.systemd import SystemdMachine, Taken
from countersign.runtimes.work import TOOLS, Work, steps, work

if TYPE_CHECKING:
    from countersign.console.config import Settings
    from countersign.enforcement.additions import Lab
    from countersign.nodes.ssh import SshNode


class RemotePlace(Place):
    """See `Place`."""

    def __init__(
        self, settings: Settings, node: SshNode, lab: Lab, adapter: type[SystemdMachine], *, demo: bool = False
    ) -> None:
        self._node = node
        self._names = lab.names
        self._adapter = adapter
        super().__init__(settings, lab.for_machine(settings, self._node, adapter.room, asked=demo), adapter)
        home = settings.state.resolve() / "ssh" / self._node.name
        self._pins: Path = home / ("pins.json" if adapter.room == "containerd" else f"{adapter.room}-pins.json")

    def look(self) -> None:
        """See `Place.look`."""
        machine = self.inspected
        machine.require_pods()
        for line in machine.warnings():
            output.warn(f"{self._node.name}: {line}")

    def exists(self) -> bool:
        """See `Place.exists`."""
        return self.inspected.restored(self._names).needed()

    def stages(self) -> Sequence[Stage]:
        """See `Place.stages`; what is pinned is known only once it was taken."""
        return [
            Stage(lambda: [*self.addition.prepared(), *self.addition.running()]),
            Stage(lambda: [pins.PinsTaken(self._pins, self.inspected.take)]),
            Stage(lambda: steps(self.works[0])),
        ]

    @cached_property
    def inspected(self) -> SystemdMachine:
        """The machine with what it is like, asked once a set-up."""
        return self.members()[0].inspected()

    def give(self) -> Sequence[Work[SystemdMachine]]:
        """See `Place.give`."""
        from countersign.tools.resolver import install

        machine = self.inspected
        taken = pins.read(self._pins) or machine.take()
        coming, programs = self.addition.keys_to_come(), install(TOOLS, self.settings)
        return [work(self.settings, machine.knowing(taken), taken.pins, programs, keys_to_come=coming)]

    def members(self) -> Sequence[SystemdMachine]:
        """See `Place.members`."""
        machine = self._adapter.as_set_up(self.settings, self._node, self.addition, self._pins)
        return [machine.knowing(pins.read(self._pins) or Taken(()))]

    def runtime(self) -> SystemdMachine:
        """See `Place.runtime`."""
        return self.members()[0].inspected()

    def require_up(self) -> None:
        """See `Place.require_up`."""
        self.addition.require_up()
        machine = self.members()[0].placed()
        machine.require_up()
        # registries are exposed nearly always where they were; a machine that lost the connection may need the new port
        for way in machine.way():
            if way.needed():
                way.apply()

    def teardown(self) -> Sequence[Step]:
        """Take our parts off the machine again; it and its runtime stay."""
        return [
            *self.members()[0].placed().taken_off(self._names),
            *self.addition.released(),
            Forgotten(self.settings, self._pins, self.adapter.room),
        ]

    def undo(self, error: BaseException) -> None:
        """Put the machine back as it was; one that cannot be reached any more is named with what is left on it."""
        try:
            run_steps(self.teardown())
        except InfrastructureError as failed:
            raise InfrastructureError(
                f"set-up failed ({error}), and what it did could not be undone ({failed})",
                where=self._node.name,
                do=f"run ./inv {self.adapter.room}.clean --on {self.settings.node}",
            ) from error


@dataclass(frozen=True)
class Forgotten:
    """This machine keeps nothing about another one.

    Attributes:
        settings: the user's.
        pins: the file of pins on this machine, beside which the rest is kept.
        room: the runtime whose place it was.
    """

    settings: Settings
    pins: Path
    room: str
    name: str = "the place is forgotten"

    def needed(self) -> bool:
        """Return whether anything is kept."""
        return any(path.exists() for path in self._kept) or self._recorded

    def apply(self) -> None:
        """Forget it."""
        for path in self._kept:
            path.unlink(missing_ok=True)
        home = self.pins.parent
        if home.is_dir() and not any(home.iterdir()):
            home.rmdir()
        if self._recorded:
            record_place(self.settings.state, "", self.room)

    @property
    def _kept(self) -> Sequence[Path]:
        return (self.pins, pins.beside(self.pins), record.beside(self.pins))

    @property
    def _recorded(self) -> bool:
        return recorded_place(self.settings.state, self.room) == self.settings.node
