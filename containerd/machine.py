"""A containerd that systemd keeps running on some node, with the usual paths: a Kind node, a machine over SSH."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from containerd import adapt, pins
from containerd.adapt import IMAGES
from containerd.enforce import Configured, ImagesRemoved, Restored, SandboxNamed
from containerd.runtime import DEFAULT_SNAPSHOTTER, SOCKET, Containerd
from containerd.survey import certs, survey
from countersign.console.errors import InfrastructureError, MissingError
from countersign.enforcement import reach
from countersign.enforcement.layout import SYSTEM
from countersign.runtimes.systemd import SystemdMachine, Taken

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from typing_extensions import Self

    from containerd.survey import Survey
    from countersign.console.config import Settings
    from countersign.console.steps import Step
    from countersign.enforcement.additions import Addition
    from countersign.enforcement.node_files import Written
    from countersign.nodes.node import Node
    from countersign.nodes.steps import Group

SLICE, CGROUP = "countersign.slice", "/countersign"
TOO_OLD_FOR_NRI = (
    "containerd before 2.2 can't require the gate's NRI plugin: containers of a runtime handler that is added after "
    "set-up start unjudged, and the gate only reports it (its log, countersign_handlers_without_hook); upgrade it"
)


@dataclass(frozen=True)
class Machine(SystemdMachine, Containerd):
    """See `countersign.runtimes.machine.Machine`.

    Attributes:
        found: what it is like; None for one that was not asked.
    """

    found: Survey | None = field(default=None, repr=False, compare=False)

    @classmethod
    def as_set_up(cls, settings: Settings, node: Node, addition: Addition, pins: Path) -> Self:
        """See `Machine.as_set_up`."""
        return cls(settings.state, node, SYSTEM, (), pins, addition)

    def inspected(self) -> Self:
        """See `Machine.inspected`."""
        return self.surveyed(survey(self.node, SYSTEM))

    def surveyed(self, found: Survey) -> Self:
        """Return it as it was found."""
        return replace(
            self,
            found=found,
            handlers=tuple(found.handlers),
            cgroup_parent=SLICE if found.systemd_cgroups else CGROUP,
            layout=replace(SYSTEM, certs=found.certs),
        )

    def placed(self) -> Self:
        """See `Machine.placed`: with the folder of hosts.toml files that its configuration names."""
        dumped = self.node.run(["containerd", "config", "dump"], check=False)
        images = tomllib.loads(dumped.text).get("plugins", {}).get(IMAGES, {}) if dumped.code == 0 else {}
        return replace(self, layout=replace(SYSTEM, certs=certs(images, SYSTEM)))

    @property
    def known(self) -> Survey:
        """What it is like, of one that was asked."""
        if self.found is None:
            raise InfrastructureError("was not asked what it is like", where=self.node.name)
        return self.found

    @property
    def snapshotter(self) -> str:
        """See `Containerd.snapshotter`."""
        return self.found.snapshotter if self.found else DEFAULT_SNAPSHOTTER

    @property
    def socket(self) -> str:
        """See `Machine.socket`."""
        return SOCKET

    @property
    def lacks_resource(self) -> bool:
        """See `Machine.lacks_resource`."""
        return self.known.lacks_resource

    @property
    def sandbox(self) -> str:
        """Its sandbox image by digest: its own, or what it is given.

        Raises:
            MissingError: it has none, and is given none.
        """
        found = self.known.sandbox or self.addition.sandbox()
        if not found:
            what = self.known.sandbox_named or "none is named in its configuration"
            raise MissingError(
                f"does not have its sandbox image yet ({what}), so that it cannot be pinned",
                where=self.node.name,
                do=f"pull it there (ctr -n k8s.io images pull {what})",
            )
        return found

    def warnings(self) -> list[str]:
        """See `Machine.warnings`: that it can't require the gate's plugin."""
        return [] if self.known.nri else [TOO_OLD_FOR_NRI]

    def take(self) -> Taken:
        """See `Machine.take`."""
        return Taken(sorted({*pins.take_from(self.node), self.sandbox}))

    def knowing(self, _taken: Taken) -> Self:
        """See `Machine.knowing`: its configuration says the rest."""
        return self

    def gate_options(self) -> Mapping[str, Any]:
        """See `Machine.gate_options`."""
        found = self.known
        told = {
            "version": ".".join(map(str, found.version)),
            "config": found.effective,
            "sandbox": self.sandbox,
            "handlers": found.handlers,
            "platform": found.platform,
            "lacksResource": found.lacks_resource,
        }
        return {"runtime_socket": SOCKET, "nri": found.nri, "base_specs": found.base_specs, "told": told}

    def way(self) -> list[Group]:
        """See `Machine.way`."""
        return reach.way(self.node, self.layout.certs, self.addition)

    def configured(self, written: Written) -> list[Step]:
        """See `Machine.configured`."""
        config = adapt.adapted(self.known.config, written.plugins)
        return [SandboxNamed(self, self.sandbox), Configured(self, config, tuple(self.known.base_specs))]

    def restored(self, names: Sequence[str]) -> Step:
        """See `Machine.restored`."""
        return Restored(self, names)

    def taken_off(self, names: Sequence[str]) -> list[Step]:
        """See `Machine.taken_off`."""
        return [Restored(self, names), ImagesRemoved(self, names)]

    def told(self) -> str:
        """See `Machine.told`."""
        return super().told() if self.known.nri else ""
