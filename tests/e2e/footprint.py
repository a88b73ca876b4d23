"""What a machine shows of a runtime: files, mounts, cgroups, interfaces, and processes of a state folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

PLACES = (
    "/etc",
    "/opt/cni",
    "/opt/containerd",
    "/opt/nri",
    "/run",
    "/usr/local",
    "/var/lib",
    "/var/log",
    "/var/run",
    "/var/tmp",
)
"""Where container runtimes, CNI and service managers write; the rest of a machine is not quiet enough to compare."""


@dataclass(frozen=True)
class Footprint:
    """All of it at one moment; two of them are compared. A file is its path with its mode and owner."""

    files: frozenset[str]
    mounts: frozenset[str]
    cgroups: frozenset[str]
    interfaces: frozenset[str]

    def beside(self, earlier: Footprint, *ours: str) -> dict[str, set[str]]:
        """Return what is here and was not there earlier, without what has one of ``ours`` in its name."""
        return {
            kind: {name for name in found - getattr(earlier, kind) if not any(mark in name for mark in ours)}
            for kind, found in vars(self).items()
        }


NOTHING: dict[str, set[str]] = {"files": set(), "mounts": set(), "cgroups": set(), "interfaces": set()}


def take(cgroup: str) -> Footprint:
    """Return the machine's footprint now, without the cgroups of instances other than ``cgroup``."""
    return Footprint(
        files=frozenset(_shown(path) for place in PLACES for path in _below(place)),
        mounts=frozenset(line.split(" ", 4)[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()),
        cgroups=frozenset(
            path
            for path in _below("/sys/fs/cgroup", folders_only=True)
            if cgroup in path or "/countersign-" not in path
        ),
        interfaces=frozenset(path.name for path in Path("/sys/class/net").iterdir()),
    )


def processes(state: Path) -> list[str]:
    """Return the command lines of processes that name the state folder; we ourselves are not meant."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it ended meanwhile
            continue
        if f"{state}/" in line and int(folder.name) != os.getpid():
            found.append(line)
    return found


def _shown(path: str) -> str:
    try:
        about = os.lstat(path)
    except FileNotFoundError:  # it ended meanwhile
        return path
    return f"{path} {about.st_mode:o} {about.st_uid}:{about.st_gid}"


def _below(place: str, *, folders_only: bool = False) -> set[str]:
    found: set[str] = set()
    for folder, folders, files in os.walk(place):
        found.update(f"{folder}/{name}" for name in (folders if folders_only else [*folders, *files]))
    return found
