"""The end of a private runtime, whole or in pieces: no process, mount, cgroup, interface or file of it stays."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from countersign.console.config import record_place, recorded_place
from countersign.console.errors import InfrastructureError, MissingError
from countersign.console.steps import Change
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


def check(instance: Private) -> None:
    """Refuse before the first change. Raises MissingError when there is something to clean and we are not root."""
    if os.geteuid() != 0 and (instance.root.exists() or cgroup.exists(instance.cgroup)):
        raise MissingError(
            "this needs root", where=str(instance.root), do=f"run it as root (sudo ./inv {instance.room}.clean)"
        )


def steps(instance: Private) -> list[Change]:
    """Return the steps that take an instance away; each works on whatever is left of it. Keys are not its own."""
    return [
        Change("services are stopped", lambda: _any_up(instance), lambda: _stop(instance)),
        # shims, containers, what a crash left; mounts and network namespaces of pods end with their last process
        Change(
            "processes and cgroups are removed",
            lambda: cgroup.exists(instance.cgroup),
            lambda: cgroup.destroy(instance.cgroup),
        ),
        Change(
            f"{instance.root} is removed",
            lambda: HOST.exists(str(instance.root)),
            lambda: remove_folder(instance.root),
        ),
        Change(
            "the place is forgotten",
            lambda: recorded_place(instance.state, instance.room) == HOST.name,
            lambda: record_place(instance.state, "", instance.room),
        ),
    ]


def _any_up(instance: Private) -> bool:
    states = (service.state(instance.run, name) for name in instance.services)
    return any(found.supervisor or found.child for found in states)


def _stop(instance: Private) -> None:
    for name in reversed(instance.services):  # the last one started first
        service.stop(instance.run, name)


def remove_folder(folder: Path) -> None:
    """Remove a folder, never through a mount into what lies behind.

    Raises:
        InfrastructureError: something in it stays.
    """
    for point in _mounts_below(folder):
        HOST.run(["umount", "--lazy", point])
    left = _mounts_below(folder)
    if left:
        raise InfrastructureError("still mounted", where=left[0], do=f"umount {left[0]}")
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise InfrastructureError(str(error.strerror), where=error.filename or str(folder)) from error


def _mounts_below(folder: Path) -> list[str]:
    """Return the mount points in a folder, the deepest first (proc_pid_mountinfo(5), octal escapes)."""
    points = [line.split()[4] for line in MOUNTS.read_text(encoding="utf-8").splitlines()]
    plain = [point.encode().decode("unicode_escape") for point in points]
    return sorted((point for point in plain if point.startswith(f"{folder}/")), key=len, reverse=True)
