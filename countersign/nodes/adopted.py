"""A program that another one started and left to us: what `subprocess.Popen` is for our own."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from contextlib import suppress

UNKNOWN = 255
"""The exit code of one that was not left to us after all."""


class Adopted:
    """One running program; the methods are those of `subprocess.Popen` with these names.

    Attributes:
        pid: its number.
        returncode: None while it runs, then its exit code, or minus the signal that ended it.
    """

    def __init__(self, pid: int) -> None:
        """Take a handle on it. Raises ProcessLookupError when there is no such process."""
        self.pid = pid
        self.returncode: int | None = None
        self._handle = os.pidfd_open(pid)

    def poll(self) -> int | None:
        """Return how it ended, or None while it runs."""
        if self.returncode is None and self._ended(0):
            self.returncode = _reap(self.pid)
            os.close(self._handle)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return how it ended. Raises subprocess.TimeoutExpired when it still runs after ``timeout`` seconds."""
        if self.returncode is None and not self._ended(timeout):
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        code = self.poll()
        return UNKNOWN if code is None else code

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it is gone."""
        if self.returncode is None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, number)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)

    def _ended(self, timeout: float | None) -> bool:
        return bool(select.select([self._handle], [], [], timeout)[0])


def _reap(pid: int) -> int:
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:
        return UNKNOWN
