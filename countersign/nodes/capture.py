"""Run one local program to its end, with bounded output and a deadline."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence

OUTPUT_LIMIT = 1 << 20
CHUNK = 1 << 16


class TimedOut(Exception):
    """The program did not end in time and was killed; the arguments are its stdout and stderr so far."""


def capture(argv: Sequence[str], *, stdin: bytes, timeout: float, env: Mapping[str, str]) -> tuple[int, bytes, bytes]:
    """Run ``argv`` and return its exit code and the last MiB of its stdout and stderr.

    The program leads a process group of its own, which is killed whole on time-out or when we
    are interrupted, so that nothing it started stays behind.

    Raises:
        TimedOut: after ``timeout`` seconds.
        OSError: the program cannot be executed.
    """
    with tempfile.TemporaryFile() as source:
        source.write(stdin)
        source.seek(0)
        process = subprocess.Popen(
            argv, stdin=source, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(env), start_new_session=True
        )
    kept = {"stdout": bytearray(), "stderr": bytearray()}
    with process:
        try:
            ended = _drain(process, kept, time.monotonic() + timeout)
            code = process.wait() if ended else None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
    stdout, stderr = bytes(kept["stdout"]), bytes(kept["stderr"])
    if code is None:
        raise TimedOut(stdout, stderr)
    return code, stdout, stderr


def _drain(process: subprocess.Popen[bytes], kept: Mapping[str, bytearray], deadline: float) -> bool:
    """Read both pipes to their end, or until the program has exited; return False at the deadline.

    A daemon that inherited the pipes would hold them open for ever: the program's own exit ends
    the reading too.
    """
    with selectors.DefaultSelector() as selector:
        for name in kept:
            selector.register(getattr(process, name), selectors.EVENT_READ, name)
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            exited = process.poll() is not None  # before the look: what it wrote last is there to be read
            ready = selector.select(0 if exited else min(left, 0.1))
            if not ready and exited:
                return True
            for key, _ in ready:
                chunk = os.read(key.fd, CHUNK)
                if not chunk:
                    selector.unregister(key.fileobj)
                buffer = kept[key.data]
                buffer += chunk
                del buffer[:-OUTPUT_LIMIT]
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return False
    return True
