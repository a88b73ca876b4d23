"""What users see: human text on stderr, one JSON document on stdout."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


@cache
def terminal() -> Console:
    """Return the one rich console on stderr; it honours TTY, ``NO_COLOR`` and ``TERM=dumb``."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if not console.is_terminal:  # a log or a pipe is no 80 columns wide
        console.width = 200
    return console


def say(text: str) -> None:
    """Print a line; square brackets in it are text, not markup."""
    terminal().print(text, markup=False)


def warn(text: str) -> None:
    """Print a warning line."""
    terminal().print(f"warning: {text}", markup=False, style="yellow")


def done(text: str, seconds: float | None = None) -> None:
    """Print ``✓ text 1.2s``."""
    _marked("✓", "green", text, seconds)


def failed(text: str, seconds: float | None = None) -> None:
    """Print ``✗ text 1.2s``."""
    _marked("✗", "red", text, seconds)


def skipped(text: str) -> None:
    """Print ``- text`` for what did not have to be done."""
    _marked("-", "dim", text, None)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> None:
    """Print a table; cells are turned into text and never read as markup."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    view = Table(*columns, title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        view.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    terminal().print(view)


def emit_json(doc: Mapping[str, Any]) -> None:
    """Write a command's one document to stdout.

    Args:
        doc: JSON values; ``version`` must name the document, as ``countersign.<thing>/v1``.

    Raises:
        ValueError: there is no such version (a mistake of ours, not of the user).
    """
    if not str(doc.get("version", "")).startswith("countersign."):
        raise ValueError("a JSON document without its version")
    sys.stdout.write(json.dumps(doc, indent=2) + "\n")
    sys.stdout.flush()


@contextmanager
def progress(text: str) -> Iterator[None]:
    """Show that something is being done: a spinner on a TTY, then ``✓`` or ``✗`` and the time."""
    console = terminal()
    start = time.monotonic()
    try:
        if console.is_terminal and not console.is_dumb_terminal:
            from rich.markup import escape

            with console.status(escape(text)):
                yield
        else:
            yield
    except BaseException:
        failed(text, time.monotonic() - start)
        raise
    done(text, time.monotonic() - start)


def _marked(mark: str, style: str, text: str, seconds: float | None) -> None:
    from rich.text import Text

    line = Text.assemble((mark, style), " ", text)
    if seconds is not None:
        line.append(f" {seconds:.1f}s", style="dim")
    terminal().print(line)
