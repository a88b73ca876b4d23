"""A shell that stays open, here a local one behind a socket that frames its output as the Docker Engine does."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import IO

import pytest

from countersign.nodes.docker import _frames
from countersign.nodes.shell import Shell, Shells

LIMIT = 1 << 20


class Engine:
    """Stands between a socket and a shell as the engine does."""

    def __init__(self) -> None:
        self.ours, self._theirs = socket.socketpair()
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self._process: subprocess.Popen[bytes] = subprocess.Popen(["sh"], bufsize=0, **pipes)  # type: ignore[call-overload]
        self._lock = threading.Lock()
        work = ((self._bring, 1, self._process.stdout), (self._bring, 2, self._process.stderr), (self._take,))
        self._threads = [threading.Thread(target=each[0], args=each[1:], daemon=True) for each in work]
        for thread in self._threads:
            thread.start()

    def _bring(self, number: int, pipe: IO[bytes]) -> None:
        with suppress(OSError):
            while chunk := os.read(pipe.fileno(), 1000):
                with self._lock:
                    self._theirs.sendall(struct.pack(">BxxxL", number, len(chunk)) + chunk)
        if number == 1:
            with suppress(OSError):
                self._theirs.shutdown(socket.SHUT_WR)

    def _take(self) -> None:
        with suppress(OSError):
            while chunk := self._theirs.recv(1000):
                os.write(self._process.stdin.fileno(), chunk)  # type: ignore[union-attr]
        self._process.stdin.close()  # type: ignore[union-attr]

    def close(self) -> None:
        self.ours.close()
        self._process.wait(20)
        for thread in self._threads:
            thread.join(20)
        for each in (self._theirs, self._process.stdout, self._process.stderr):
            each.close()  # type: ignore[union-attr]


def start() -> Shell:
    """Start a shell behind a socket; its stdin ends when the socket is closed."""
    engine = Engine()
    return Shell(engine.ours, _frames, engine)


@pytest.fixture
def shell() -> Iterator[Shell]:
    """A shell."""
    found = start()
    yield found
    found.close()


def run(shell: Shell, *argv: str, **env: str) -> tuple[bytes, bytes, int]:
    return shell.run(argv, env, 10, LIMIT)


def test_outputs_and_exit_code_come_apart_one_command_after_the_other(shell: Shell) -> None:
    assert run(shell, "sh", "-c", "echo out; echo err >&2; exit 3") == (b"out\n", b"err\n", 3)
    assert run(shell, "printf", "no end of line") == (b"no end of line", b"", 0)
    assert run(shell, "true") == (b"", b"", 0)


@pytest.mark.parametrize(
    "word", ["", "two words", "$HOME `id` \\", "'quoted\" ", "two\nlines", "ä\udcff", "*", "a;b&&c"]
)
def test_no_shell_reads_the_words(shell: Shell, word: str) -> None:
    assert run(shell, "printf", "%s", word) == (os.fsencode(word), b"", 0)


def test_environment_is_that_of_one_command(shell: Shell) -> None:
    assert run(shell, "sh", "-c", "echo $WORD", WORD="a b")[0] == b"a b\n"
    assert run(shell, "sh", "-c", "echo $WORD")[0] == b"\n"


def test_a_command_reads_nothing_of_what_comes_after_it(shell: Shell) -> None:
    assert run(shell, "cat") == (b"", b"", 0)
    assert run(shell, "echo", "next")[0] == b"next\n"


def test_of_much_output_the_end_is_kept(shell: Shell) -> None:
    stdout, _, code = shell.run(["seq", "100000"], {}, 10, 1000)
    assert (len(stdout), stdout[-7:], code) == (1000, b"100000\n", 0)
    assert run(shell, "echo", "next")[0] == b"next\n"


def test_a_program_that_is_killed_leaves_the_shell(shell: Shell) -> None:
    stdout, _, code = run(shell, "timeout", "--signal=KILL", "0.1", "sleep", "9")
    assert (stdout, code) == (b"", 128 + 9)
    assert run(shell, "echo", "next")[0] == b"next\n"


def test_a_shell_that_ends_during_a_command_is_told(shell: Shell) -> None:
    with pytest.raises(EOFError, match="ended early"):
        run(shell, "sh", "-c", "kill -9 $PPID; sleep 0.1")


def test_one_that_waits_is_used_again_and_one_that_ended_is_not() -> None:
    started: list[Shell] = []

    def another() -> Shell:
        started.append(start())
        return started[-1]

    shells = Shells()
    for _ in range(3):
        with shells.one(another) as shell:
            assert run(shell, "echo", "1")[0] == b"1\n"
    assert len(started) == 1
    with shells.one(another) as first, shells.one(another) as second:
        assert first is not second, "two commands at the same time have a shell each"
    started[0].raw.shutdown(socket.SHUT_WR)
    started[1].raw.shutdown(socket.SHUT_WR)
    for each in started:
        each.raw.settimeout(10)
        assert each.raw.recv(1, socket.MSG_PEEK) == b""
    with shells.one(another) as shell:
        assert run(shell, "echo", "2")[0] == b"2\n"
    assert len(started) == 3


def test_one_in_which_something_went_wrong_is_not_used_again() -> None:
    shells = Shells()
    with pytest.raises(TimeoutError), shells.one(start) as shell:
        shell.run(["sleep", "1"], {}, 0.1, LIMIT)
    with shells.one(start) as other:
        assert other is not shell
    other.close()
