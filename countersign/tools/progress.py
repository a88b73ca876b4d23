"""Builds that take minutes, shown: a line each with the time on a TTY, else one at start and end, and now and then."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from countersign.console import clean, output

if TYPE_CHECKING:
    from rich.progress import Progress


class Board:
    """Where running builds are shown; its lines may be opened from several threads."""

    def __init__(self, live: Progress | None) -> None:
        self._live = live

    @contextmanager
    def line(self, text: str) -> Iterator[None]:
        """Show ``text`` while the block runs, and how it ended."""
        if self._live is None:
            output.say(f"  {text} …")
            with output.progress(text):
                yield
            return
        start = time.monotonic()
        row = self._live.add_task(clean.line(text), total=None)
        try:
            yield
        except BaseException:
            output.failed(text, time.monotonic() - start)
            raise
        else:
            output.done(text, time.monotonic() - start)
        finally:
            self._live.remove_task(row)


@contextmanager
def board() -> Iterator[Board]:
    """Open a board for some builds."""
    spinners = output.spinners()
    if spinners is None:
        yield Board(None)
        return
    with spinners as live:
        yield Board(live)
