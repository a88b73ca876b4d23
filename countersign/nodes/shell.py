"""A shell that stays open in a container: a ``docker exec`` costs a tenth of a second, a line to a shell hardly any.

What it runs has nothing to read on stdin; its stdout and stderr come apart, each with a mark of ours at its end.
"""

from __future__ import annotations

import re
import secrets
import select
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import socket

STDOUT, STDERR = 1, 2
PROGRAM = ("/bin/sh",)
IDLE = 8
"""Shells that wait for the next command; more are closed again."""


class Closeable(Protocol):
    """What the engine's client wraps a stream in."""

    def close(self) -> None:
        """Close it."""


@dataclass(frozen=True)
class Shell:
    """One shell.

    Attributes:
        raw: leads to its stdin, and brings the frames of its output.
        frames: reads the next frames from ``raw``: the stream's number, and some bytes of it.
        stream: is closed with it.
    """

    raw: socket.socket
    frames: Callable[[socket.socket], Iterator[tuple[int, bytes]]] = field(repr=False)
    stream: Closeable = field(repr=False)

    def run(self, argv: Sequence[str], env: Mapping[str, str], timeout: float, limit: int) -> tuple[bytes, bytes, int]:
        """Run a program and return the last ``limit`` bytes of stdout and stderr, and its exit code.

        Raises:
            EOFError: the shell ended; whether the program ran is not known.
            OSError: there was no answer within ``timeout`` seconds, or the connection broke.
        """
        mark = secrets.token_hex(16)
        self.raw.settimeout(timeout)
        self.raw.sendall(_line(argv, env, mark))
        ends = {
            STDOUT: re.compile(rb"\n%b ([0-9]+)\n\Z" % mark.encode()),
            STDERR: re.compile(rb"\n%b\n\Z" % mark.encode()),
        }
        outputs = {number: bytearray() for number in ends}
        found: dict[int, re.Match[bytes]] = {}
        for number, chunk in self.frames(self.raw):
            kept = outputs[number]
            kept += chunk
            if match := ends[number].search(bytes(kept[-80:])):
                found[number] = match
                del kept[-len(match[0]) :]
                if len(found) == len(ends):
                    break
            elif len(kept) > 2 * limit:
                del kept[: -limit - 80]
        else:
            raise EOFError("the shell ended early")
        return bytes(outputs[STDOUT][-limit:]), bytes(outputs[STDERR][-limit:]), int(found[STDOUT][1])

    def usable(self) -> bool:
        """Return whether it still waits: between commands nothing comes, so what comes is its end."""
        try:
            return not select.select([self.raw], [], [], 0)[0]
        except (OSError, ValueError):
            return False

    def close(self) -> None:
        """End it."""
        self.stream.close()
        self.raw.close()

    def __del__(self) -> None:
        """End it with its last user."""
        self.close()


@dataclass(frozen=True)
class Shells:
    """The shells of one container; as many as there are commands at the same time."""

    _idle: list[Shell] = field(default_factory=list, repr=False)

    @contextmanager
    def one(self, start: Callable[[], Shell]) -> Iterator[Shell]:
        """Give a shell that nobody else uses meanwhile; one in which something went wrong is not used again.

        Args:
            start: makes another one.
        """
        shell = self._waiting() or start()
        try:
            yield shell
        except BaseException:
            shell.close()
            raise
        if len(self._idle) < IDLE:
            self._idle.append(shell)
        else:
            shell.close()

    def _waiting(self) -> Shell | None:
        while self._idle:
            try:
                shell = self._idle.pop()
            except IndexError:  # another thread was quicker
                return None
            if shell.usable():
                return shell
            shell.close()
        return None


def _line(argv: Sequence[str], env: Mapping[str, str], mark: str) -> bytes:
    """Return the shell's own words for a command and the marks after it (POSIX.1, Shell Command Language)."""
    words = ["env", *(f"{name}={value}" for name, value in env.items()), *argv] if env else argv
    marks = f"printf '\\n%s %d\\n' {mark} \"$?\"; printf '\\n%s\\n' {mark} >&2"
    return f"{shlex.join(words)} </dev/null; {marks}\n".encode(errors="surrogateescape")
