"""Fixed paths of the machine, replaced for one process tree: what is written there lands in our folder."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from countersign.nodes.linux import MS_BIND, MS_MOVE, MS_REC, join_mounts, mount, private_mounts


def shadow(paths: Mapping[str, str], scratch: Path) -> None:
    """Leave the machine's table of mounts and put folders of ours over fixed paths.

    This is for programs with paths that no setting changes. Only this process and what it
    starts see the replacement; when the last of them ends, the kernel takes the mounts away.

    Args:
        paths: path of the machine → existing folder that stands there instead. A path that the
            machine does not have is made visible without making it: its nearest existing
            ancestor is replaced by a copy that consists of mounts of the same entries.
        scratch: an existing empty folder of ours, used on the way.

    Raises:
        OSError: a mount was refused.
    """
    private_mounts()
    for path, target in paths.items():
        place = Path(path)
        if not place.is_dir():
            _widen(place, scratch)
        mount(target, place, flags=MS_BIND | MS_REC)


def rejoin(paths: Mapping[str, str], pids: Iterable[int]) -> bool:
    """Enter the table of mounts of an earlier run of ours, if a process of it is left, and return whether there is one.

    What it mounted, such as the network namespaces of pods that go on running, is seen only there.

    Args:
        paths: those of `shadow`; a table in which one of them is missing is none of ours.
        pids: processes that may be left. One with another root, as in a container, does not count.
    """
    for pid in pids:
        if _has(pid, paths):
            join_mounts(pid)
            return True
    return False


def _has(pid: int, paths: Mapping[str, str]) -> bool:
    """Return whether a process has our root, a table of mounts that is not ours, and every replacement in it."""
    try:
        if Path(f"/proc/{pid}/ns/mnt").readlink() == Path("/proc/self/ns/mnt").readlink():
            return False
        if Path(f"/proc/{pid}/root").readlink() != Path("/") or not Path(f"/proc/{pid}/root").samefile("/"):
            return False
        return all(Path(f"/proc/{pid}/root{path}").samefile(target) for path, target in paths.items())
    except OSError:
        return False  # it ended meanwhile, or has no such path


def _widen(path: Path, scratch: Path) -> None:
    """Replace the nearest existing ancestor of ``path`` by a copy in which ``path`` is a folder."""
    ancestor = next(parent for parent in path.parents if parent.is_dir())
    mode = stat.S_IMODE(ancestor.stat().st_mode)
    mount("countersign", scratch, "tmpfs", data=f"mode={mode:o},size=1m")
    for entry in ancestor.iterdir():
        copy = scratch / entry.name
        if entry.is_symlink():
            copy.symlink_to(entry.readlink())
            continue
        if entry.is_dir():
            copy.mkdir()
        else:
            copy.touch()
        mount(str(entry), copy, flags=MS_BIND | MS_REC)
    (scratch / path.relative_to(ancestor)).mkdir(parents=True)
    mount(str(scratch), ancestor, flags=MS_MOVE)
