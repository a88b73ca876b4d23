"""The one interface by which a machine is reached; each transport is one module beside this one."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from countersign.console.errors import InfrastructureError

SHOWN = 600
"""How many characters of a failed command's output an error shows."""


@dataclass(frozen=True)
class Result:
    """What a command left.

    Attributes:
        argv: the command, as it was given.
        code: its exit code; ``-N`` when signal N ended it.
        stdout: the last MiB it wrote there.
        stderr: the last MiB it wrote there.
        seconds: how long it ran.
    """

    argv: tuple[str, ...]
    code: int
    stdout: bytes = field(repr=False)
    stderr: bytes = field(repr=False)
    seconds: float

    @property
    def text(self) -> str:
        """Stdout as text, without the white space around it."""
        return self.stdout.decode(errors="replace").strip()


class CommandError(InfrastructureError):
    """A command on a node failed, or did not end in time; its text can be pasted into a shell.

    Attributes:
        result: what the command left.
    """

    def __init__(self, result: Result, node: str, why: str = "") -> None:
        output = (result.stderr or result.stdout).decode(errors="replace").strip()
        why = why or f"exit code {result.code}"
        super().__init__(f"{why}: {output[-SHOWN:]}" if output else why, where=f"{node}: {shlex.join(result.argv)}")
        self.result = result


class Node(Protocol):
    """A machine: commands, files, and ways to its sockets and from it to ours."""

    @property
    def name(self) -> str:
        """How users call it, such as ``host``."""

    def run(
        self,
        argv: Sequence[str],
        *,
        input: bytes = b"",  # noqa: A002 - subprocess' own word
        check: bool = True,
        timeout: float = 60,
        env: Mapping[str, str] | None = None,
    ) -> Result:
        """Run a program there and wait for it.

        Args:
            argv: program and arguments; no shell reads them.
            input: what it reads from stdin.
            check: raise when it exits with anything but 0.
            timeout: seconds; then it is killed with all it started.
            env: added to its environment.

        Raises:
            CommandError: it failed (with ``check``), or ran out of time.
            MissingError: there is no such program.
        """

    def put(self, content: bytes | Path, path: str, mode: int = 0o644, owner: str = "") -> bool:
        """Make a file have this content, mode and owner, and return whether it had not.

        Others see the old file or the whole new one, and never with wider access than ``mode``.

        Args:
            content: the bytes, or a local file that has them.
            path: absolute, on the node; its folder exists.
            mode: permission bits.
            owner: ``user`` or ``user:group``; empty leaves it with the user we are there.
        """

    def get(self, path: str) -> bytes:
        """Return a file's content, 64 MiB at most. Raises InfrastructureError when it cannot be read."""

    def exists(self, path: str) -> bool:
        """Return whether something is at ``path``; a broken link counts."""

    def forward(self, socket: str) -> str:
        """Return a gRPC target on this machine that leads to a unix socket of the node."""

    def expose(self, port: int) -> str:
        """Return the ``http://`` URL under which the node reaches a port of this machine's loopback."""
