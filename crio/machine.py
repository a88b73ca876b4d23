"""A CRI-O that systemd keeps running on some machine, with the usual paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countersign.console.errors import InfrastructureError, MissingError
from countersign.enforcement.layout import SYSTEM
from countersign.enforcement.node_units import ACTIVE
from countersign.nodes.systemd import UnitRuns, unit_state
from countersign.runtimes.systemd import SystemdMachine, Taken
from crio import effective, packages, system_images
from crio.paths import INSTALLED
from crio.runtime import UNIT, Configured, Crio, engine_of
from crio.units import ImagesRemoved, Restored

if TYPE_CHECKING:
    from typing_extensions import Self

    from countersign.console.config import Settings
    from countersign.console.steps import Step
    from countersign.enforcement.additions import Addition
    from countersign.enforcement.node_files import Written
    from countersign.nodes.node import Node
    from crio.effective import Effective

SLICE, CGROUP = "countersign.slice", "/countersign"


@dataclass(frozen=True)
class Machine(SystemdMachine, Crio):
    """See `countersign.runtimes.machine.Machine`.

    Attributes:
        found: its configuration in effect; None for one that was not asked.
        taken: what it needs itself, as it was before the first set-up.
    """

    found: Effective | None = field(default=None, repr=False, compare=False)
    taken: Mapping[str, str | Sequence[str]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def as_set_up(cls, settings: Settings, node: Node, addition: Addition, pins: Path) -> Self:
        """See `Machine.as_set_up`."""
        return cls(settings.state, node, SYSTEM, (), pins, addition, engine=engine_of(settings), settings=settings)

    def inspected(self) -> Self:
        """See `Machine.inspected`."""
        packages.require_version(self.node)
        state = unit_state(self.node, UNIT).active
        if state != ACTIVE:
            do = f"start it there (systemctl start {UNIT}), and read journalctl -u crio"
            raise InfrastructureError(f"{UNIT} is {state}", where=self.node.name, do=do)
        found = effective.effective(self.node, self.program, INSTALLED.socket)
        parent = SLICE if found.systemd_cgroups else CGROUP
        paths = replace(self.paths, nri=found.nri)
        return replace(self, found=found, handlers=found.handlers, cgroup_parent=parent, paths=paths)

    @property
    def known(self) -> Effective:
        """Its configuration in effect, of one that was asked."""
        if self.found is None:
            raise InfrastructureError("was not asked what it is like", where=self.node.name)
        return self.found

    def take(self) -> Taken:
        """See `Machine.take`."""
        found = self.known
        with self.client() as client:
            sandbox = system_images.sandbox(client, found.sandbox) or self.addition.sandbox()
            pins, tags = system_images.taken(client)
        if not sandbox:
            raise MissingError(
                f"does not have its sandbox image ({found.sandbox}) and cannot pull it, so that it cannot be pinned",
                where=self.node.name,
                do="bring it there, or name one that it reaches as pause_image in /etc/crio/crio.conf.d",
            )
        return Taken(sorted({*pins, sandbox}), {"sandbox": sandbox, "tags": tags})

    def knowing(self, taken: Taken) -> Self:
        """See `Machine.knowing`."""
        return replace(self, taken=taken.more, tags=tuple(taken.more.get("tags", ())))

    def storage(self) -> tuple[str, str]:
        """See `Crio.storage`."""
        return self.known.storage, self.known.run_storage

    @property
    def in_effect(self) -> Mapping[str, Any]:
        """See `Crio.in_effect`; the gate's program tells ours from its user's."""
        return self.known.config

    @property
    def sandbox_by_digest(self) -> str:
        """See `Crio.sandbox_by_digest`."""
        return str(self.taken.get("sandbox", ""))

    def configured(self, written: Written) -> list[Step]:
        """See `Machine.configured`."""
        files = self.configuration(written)
        return [Configured(self, files, UnitRuns(self.node, UNIT, [file.path for file in files]))]

    def restored(self, names: Sequence[str]) -> Step:
        """See `Machine.restored`."""
        return Restored(self.node, names, self.addition.urls)

    def taken_off(self, names: Sequence[str]) -> list[Step]:
        """See `Machine.taken_off`."""
        return [ImagesRemoved(self.node, names), self.restored(names)]
