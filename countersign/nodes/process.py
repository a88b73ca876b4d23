"""Processes by identity: a number alone may belong to another process by now."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Process:
    """One process of this machine.

    Attributes:
        pid: its number.
        start: when it started, in clock ticks since boot (proc(5), field 22 of ``stat``).
        boot: which boot that was.
    """

    pid: int
    start: int
    boot: str

    def alive(self) -> bool:
        """Return whether it still runs; a zombie does not."""
        return of(self.pid) == self

    def started(self) -> float:
        """Return when it started, in seconds since the epoch, to a clock tick (10 ms)."""
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - self.start / os.sysconf("SC_CLK_TCK")
        return time.time() - age

    def send(self, number: signal.Signals) -> bool:
        """Send it a signal and return True, or return False when it is gone; never signals another process."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            if not self.alive():  # the handle is taken first, so what it refers to cannot change any more
                return False
            signal.pidfd_send_signal(handle, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(handle)
        return True

    def wait(self, timeout: float) -> bool:
        """Wait until it is gone; return False when it is still there after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while self.alive():
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.01)
        return True


def of(pid: int) -> Process | None:
    """Return the process that has this number now, or None; zombies count as gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else Process(pid, int(fields[19]), BOOT.read_text(encoding="utf-8").strip())
