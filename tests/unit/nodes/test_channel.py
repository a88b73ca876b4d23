"""How the output of a command over SSH is read to its end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

import pytest

from countersign.nodes import channel as channels

if TYPE_CHECKING:
    from paramiko import Channel


class Slow:
    """A channel whose command is silent for a while, ends, and whose output is there some time after that."""

    def __init__(self, runs: float, late: float) -> None:
        self.now, self.end, self.told = 0.0, runs, runs + late
        self.chunks: Iterator[bytes] = iter((b"output", b""))

    def monotonic(self) -> float:
        return self.now

    def exit_status_ready(self) -> bool:
        return self.now >= self.end

    def recv(self, _size: int) -> bytes:
        if self.now < self.told:
            self.now += channels.TICK
            raise TimeoutError
        return next(self.chunks)


@pytest.mark.parametrize(
    ("runs", "late", "found"),
    [(0.0, 1.0, b"output"), (10.0, 1.0, b"output"), (10.0, channels.SILENCE + 1, b"")],
)
def test_output_that_comes_after_the_exit_code_is_kept(
    runs: float, late: float, found: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the command was silent; what comes much later is of a daemon that holds the stream open."""
    slow, kept = Slow(runs, late), bytearray()
    monkeypatch.setattr(channels, "time", slow)
    channels._keep(cast("Channel", slow), slow.recv, kept, 60.0, 1 << 20)
    assert bytes(kept) == found
