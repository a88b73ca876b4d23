"""The system calls that Python before 3.12 does not have."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

CLONE_NEWNS = 0x00020000
MS_BIND = 4096
MS_MOVE = 8192
MS_REC = 16384
MS_SLAVE = 1 << 19
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)


def mount(source: str, target: Path | str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """Mount something; the arguments are those of the system call. Raises OSError."""
    if _libc.mount(source.encode(), os.fsencode(target), kind.encode(), flags, data.encode()) != 0:
        raise _last_error(str(target))


def private_mounts() -> None:
    """Give this process its own table of mounts: the machine's reach us, ours never reach it. Raises OSError."""
    if _libc.unshare(CLONE_NEWNS) != 0:
        raise _last_error("unshare")
    mount("none", "/", flags=MS_REC | MS_SLAVE)


def join_mounts(pid: int) -> None:
    """Take over the table of mounts of another process (setns(2)); ours must have a single thread. Raises OSError."""
    handle = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(handle, CLONE_NEWNS) != 0:
            raise _last_error(f"setns to the mounts of process {pid}")
    finally:
        os.close(handle)


def die_with_parent(signal: int) -> None:
    """Have the kernel send us ``signal`` when the thread that started us ends (prctl(2)). Raises OSError."""
    if _libc.prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0) != 0:
        raise _last_error("prctl")


def adopt_orphans() -> None:
    """Become the parent of what our children start and leave behind (prctl(2)). Raises OSError."""
    if _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise _last_error("prctl")


def _last_error(where: str) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code), where)
