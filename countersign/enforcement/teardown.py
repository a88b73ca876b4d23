"""The end of a private runtime, whole or in pieces: no process, mount, cgroup, interface or file of it stays."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from countersign.console.config import record_place, recorded_place
from countersign.console.errors import InfrastructureError, MissingError
from countersign.nodes import cgroup, service
from countersign.nodes.host import HOST

MOUNTS = Path("/proc/self/mountinfo")


class Private(Protocol):
    """A runtime of this host that is all ours."""

    @property
    def state(self) -> Path:
        """The state folder."""

    @property
    def root(self) -> Path:
        """The folder that is all ours."""

    @property
    def run(self) -> Path:
        """Where supervisors keep their files."""

    @property
    def cgroup(self) -> str:
        """The cgroup of everything that belongs to it."""

    @property
    def services(self) -> Sequence[str]:
        """Everything supervised, in the order in which it starts."""

    @property
    def room(self) -> str:
        """The runtime's name: its tasks remember their place under it."""


@dataclass(frozen=True)
class ServicesStopped:
    """No supervisor of the instance runs, and so no service of it."""

    instance: Private
    name: str = "services are stopped"

    def needed(self) -> bool:
        """Return whether one is up."""
        return any(
            found.supervisor or found.child
            for found in (service.state(self.instance.run, name) for name in self.instance.services)
        )

    def apply(self) -> None:
        """Stop them, the last one started first."""
        for name in reversed(self.instance.services):
            service.stop(self.instance.run, name)


@dataclass(frozen=True)
class ProcessesRemoved:
    """The instance's cgroup is gone, with every process in it: shims, containers, what a crash left."""

    instance: Private
    name: str = "processes and cgroups are removed"

    def needed(self) -> bool:
        """Return whether there is such a cgroup."""
        return cgroup.exists(self.instance.cgroup)

    def apply(self) -> None:
        """Kill, and remove it. Mounts and network namespaces of pods end with their last process."""
        cgroup.destroy(self.instance.cgroup)


@dataclass(frozen=True)
class FilesRemoved:
    """The instance's folder is gone."""

    instance: Private

    @property
    def name(self) -> str:
        """What users read."""
        return f"{self.instance.root} is removed"

    def needed(self) -> bool:
        """Return whether it is there."""
        return HOST.exists(str(self.instance.root))

    def apply(self) -> None:
        """Remove it, never through a mount into what lies behind."""
        for point in _mounts_below(self.instance.root):
            HOST.run(["umount", "--lazy", point])
        left = _mounts_below(self.instance.root)
        if left:
            raise InfrastructureError("still mounted", where=left[0], do=f"umount {left[0]}")
        try:
            shutil.rmtree(self.instance.root)
        except OSError as error:
            raise InfrastructureError(str(error.strerror), where=error.filename or str(self.instance.root)) from error


@dataclass(frozen=True)
class PlaceForgotten:
    """The state folder no longer says that this host is the place."""

    instance: Private
    name: str = "the place is forgotten"

    def needed(self) -> bool:
        """Return whether it says so."""
        return recorded_place(self.instance.state, self.instance.room) == HOST.name

    def apply(self) -> None:
        """Forget it."""
        record_place(self.instance.state, "", self.instance.room)


def check(instance: Private) -> None:
    """Refuse before the first change. Raises MissingError when there is something to clean and we are not root."""
    if os.geteuid() != 0 and (instance.root.exists() or cgroup.exists(instance.cgroup)):
        raise MissingError(
            "this needs root", where=str(instance.root), do=f"run it as root (sudo ./inv {instance.room}.clean)"
        )


def steps(instance: Private) -> list[ServicesStopped | ProcessesRemoved | FilesRemoved | PlaceForgotten]:
    """Return the steps that take an instance away; each works on whatever is left of it. Keys are not its own."""
    return [ServicesStopped(instance), ProcessesRemoved(instance), FilesRemoved(instance), PlaceForgotten(instance)]


def _mounts_below(folder: Path) -> list[str]:
    """Return the mount points in a folder, the deepest first (proc_pid_mountinfo(5), octal escapes)."""
    points = [line.split()[4] for line in MOUNTS.read_text(encoding="utf-8").splitlines()]
    plain = [point.encode().decode("unicode_escape") for point in points]
    return sorted((point for point in plain if point.startswith(f"{folder}/")), key=len, reverse=True)
