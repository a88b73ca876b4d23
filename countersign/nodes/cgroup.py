"""A cgroup of our own in every mounted hierarchy, version 1, 2 or both: what belongs to an instance."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from countersign.console.errors import InfrastructureError
from countersign.nodes import process

MOUNTS = Path("/proc/self/mountinfo")
UNFIT = {"cpuset", "cpu", "cpuacct", "memory", "blkio", "devices"}
"""Version 1 controllers that a mere member list should not switch on."""


def hierarchies() -> list[Path]:
    """Return the mount points of all cgroup hierarchies, version 2 first.

    Read are type, root and mount point of proc_pid_mountinfo(5). A hierarchy mounted elsewhere
    a second time, or only in part, is left out.
    """
    found: dict[str, tuple[str, Path]] = {}
    for line in MOUNTS.read_text(encoding="utf-8").splitlines():
        left, _, right = line.partition(" - ")
        kind, options = right.split()[0], right.split()[-1]
        point = Path(left.split()[4])
        if kind in {"cgroup", "cgroup2"} and point.is_dir():
            found.setdefault("v2" if kind == "cgroup2" else options, (kind, point))
    return [point for kind, point in sorted(found.values(), key=lambda item: item[0] != "cgroup2")]


def join(name: str) -> None:
    """Move this process, with all that it will start, to ``<name>/daemons``.

    One hierarchy is enough to find them all again; version 2 is taken where there is one. A leaf
    is used because version 2 wants processes in leaves only.

    Raises:
        InfrastructureError: there is no hierarchy to be in.
    """
    points = [point for point in hierarchies() if not UNFIT & set(point.name.split(","))]
    if not points:
        raise InfrastructureError("no cgroup hierarchy is mounted", where="/sys/fs/cgroup", do="mount cgroup2 there")
    leaf = points[0] / name / "daemons"
    leaf.mkdir(parents=True, exist_ok=True)
    (leaf / "cgroup.procs").write_text(str(os.getpid()), encoding="utf-8")


def members(name: str) -> set[process.Process]:
    """Return every process in the cgroup ``name`` or below it, in any hierarchy; we are not counted."""
    pids = {int(pid) for group in _groups(name) for pid in _read(group / "cgroup.procs").split()}
    return {found for pid in pids - {os.getpid()} if (found := process.of(pid))}


def exists(name: str) -> bool:
    """Return whether any hierarchy has the cgroup."""
    return any((point / name).is_dir() for point in hierarchies())


def destroy(name: str, timeout: float = 10) -> None:
    """Kill every process in the cgroup and remove it everywhere; one that is not there is not an error.

    Raises:
        InfrastructureError: a process or a cgroup is still there after ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        alive = members(name)
        for member in alive:
            member.send(signal.SIGKILL)
        if not alive and all(_remove(group) for group in _groups(name)):
            return
        if time.monotonic() >= deadline:
            left = " ".join(str(member.pid) for member in alive) or "a cgroup that is busy"
            raise InfrastructureError(f"cannot be emptied: {left}", where=f"cgroup {name}")
        time.sleep(0.02)


def _groups(name: str) -> Iterator[Path]:
    """Yield the cgroup's folders in all hierarchies, the deepest first."""
    for point in hierarchies():
        for folder, _, _ in os.walk(point / name, topdown=False):
            yield Path(folder)


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""  # the cgroup went away meanwhile
    except OSError as error:
        if error.errno in {errno.ENODEV, errno.EOPNOTSUPP}:  # going away; or threaded, listed by its parent
            return ""
        raise


def _remove(group: Path) -> bool:
    try:
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno == errno.EBUSY:
            return False
        raise
    return True
