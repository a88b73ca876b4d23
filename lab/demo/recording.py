"""A real run of commands, recorded as an asciinema cast (asciicast v2) and drawn as one picture of its last screen."""

from __future__ import annotations

import codecs
import json
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fcntl import ioctl
from pathlib import Path

from countersign.console.config import ROOT
from countersign.console.errors import VerdictError

COLUMNS, ROWS = 110, 30
READ = 1 << 16
PROMPT = "\x1b[1;32m$\x1b[0m "
TOGETHER = 0.02
"""Seconds of silence after which what was written is one event: a path is in one event as a whole."""
PAUSE = 1.0
"""Seconds between a command and the next, in the cast; nothing waits for them."""
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-ln-z]|\x1b[=>]|\x1b\][^\x07]*\x07")
"""Terminal control sequences other than colours (``m``), which the picture keeps."""
_SPINNER = re.compile(r"(\x1b\[[0-9;]*m)*[\u2800-\u28ff]")
"""How a line begins that says what is being done: braille patterns."""


@dataclass(frozen=True)
class Event:
    """Something that appeared on the terminal.

    Attributes:
        at: seconds since the beginning.
        text: what appeared, with the terminal's control sequences.
    """

    at: float
    text: str


def record(commands: Sequence[Sequence[str]], cwd: Path = ROOT) -> list[Event]:
    """Run commands one after another on a terminal of their own, and return what appeared there.

    Raises:
        VerdictError: one of them did not end with exit code 0; a recording shows a run that went as it should.
    """
    events: list[Event] = []
    start = time.monotonic()
    paused = 0.0
    for command in commands:
        shown = " ".join(command)
        events.append(Event(time.monotonic() - start + paused, f"{PROMPT}{shown}\r\n"))
        shift = paused - start
        events.extend(Event(time.monotonic() + shift, text) for text in _run(command, cwd))
        paused += PAUSE
    return events


def _run(command: Sequence[str], cwd: Path) -> Iterator[str]:
    """Run a command on a pseudo-terminal, and yield what it writes, as it does; the folder that it runs in is "."."""
    ours, theirs = pty.openpty()
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    try:
        ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "LINES": str(ROWS)}
        with subprocess.Popen(command, cwd=cwd, env=environment, stdin=theirs, stdout=theirs, stderr=theirs) as run:
            while True:
                ended = run.poll() is not None
                written = b""
                while select.select([ours], [], [], TOGETHER if written or ended else 0.1)[0]:
                    written += os.read(ours, READ)
                if written:
                    yield decode(written).replace(str(cwd), ".")
                elif ended:
                    break
    finally:
        os.close(theirs)
        os.close(ours)
    if run.returncode:
        raise VerdictError(f"ended with {run.returncode}, so it is not recorded", where=" ".join(command))


def cast(events: Sequence[Event], title: str) -> str:
    """Return a recording in asciinema's form: a line for the header, and one for each event."""
    header = {"version": 2, "width": COLUMNS, "height": ROWS, "title": title, "env": {"TERM": "xterm-256color"}}
    lines = [json.dumps(header), *(json.dumps([round(each.at, 3), "o", each.text]) for each in events)]
    return "\n".join(lines) + "\n"


def picture(events: Sequence[Event], title: str, rows: int = ROWS) -> str:
    """Return the end of what stayed on the terminal, as SVG."""
    from countersign.console.picture import svg

    return svg(lines("".join(each.text for each in events))[-rows:], title, COLUMNS)


def lines(written: str) -> list[str]:
    """Return the lines that stayed on a terminal: of one that was written again, what was written last."""
    found = []
    for line in written.replace("\r\n", "\n").split("\n"):
        last = [part for part in (_CONTROL.sub("", each).rstrip() for each in line.split("\r")) if part]
        if last and not _SPINNER.match(last[-1]):
            found.append(last[-1])
    return found
