"""What users see: human text on stderr, one JSON document on stdout.

Nothing else writes to either, and whatever is written is cleaned here (``console.clean``): no caller can forget it.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from countersign.console import clean
from countersign.console.errors import InfrastructureError, UsageError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

Branch = tuple[str, "Sequence[Branch]"]
"""A line of a tree, and what hangs below it."""
SIGN_OF_LIFE = 10.0
"""Seconds between two lines that say that work goes on, where no spinner turns."""
_documents: list[Mapping[str, Any]] = []
_gathering = False
_emitted = 0


@cache
def _terminal() -> Console:
    """Return the one rich console on stderr; it honours TTY, ``NO_COLOR`` and ``TERM=dumb``."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)
    if not console.is_terminal:  # a log or a pipe is not 80 columns wide
        console.width = 200
    return console


def say(text: str) -> None:
    """Print a line; square brackets and colons in it are text, not markup."""
    _terminal().print(clean.line(text))


def warn(text: str) -> None:
    """Print a warning line."""
    _terminal().print(clean.line(f"warning: {text}"), style="yellow")


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

    heading = Text(clean.line(title)) if title else None
    view = Table(title=heading, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        view.add_column(Text(clean.line(column)))
    for row in rows:
        view.add_row(*(Text(clean.line(str(cell))) for cell in row))
    _terminal().print(view)


def show_tree(label: str, branches: Iterable[Branch]) -> None:
    """Print a tree."""
    from rich.text import Text
    from rich.tree import Tree

    def fill(view: Tree, inner: Iterable[Branch]) -> None:
        for name, below in inner:
            fill(view.add(Text(clean.line(name))), below)

    view = Tree(Text(clean.line(label)))
    fill(view, branches)
    _terminal().print(view)


def emit_text(text: str) -> None:
    """Write what was asked for, such as a log or a path, to stdout."""
    _stdout(clean.text(text.removesuffix("\n")))


def emit_end(log: bytes, lines: int) -> None:
    """Write the last lines of a log to stdout; none of them if there is none.

    Raises:
        UsageError: fewer than one line is asked for.
    """
    if lines < 1:
        raise UsageError(f"got {lines}", where="--lines", expected="1 or more")
    end = log.decode(errors="replace").replace("\r\n", "\n").removesuffix("\n").split("\n")[-lines:]
    if end != [""]:
        emit_text("\n".join(end))


def emit_json(doc: Mapping[str, Any]) -> None:
    """Write a command's one document to stdout; whatever is not ASCII in it stands as JSON's own escape.

    Args:
        doc: JSON values; ``version`` must name the document, as ``countersign.<thing>/v1``.

    Raises:
        ValueError: there is no such version (a mistake of ours, not of the user).
    """
    if not str(doc.get("version", "")).startswith("countersign."):
        raise ValueError("a JSON document without its version")
    global _emitted  # noqa: PLW0603 - one process has one stdout
    _emitted += 1
    _documents.append(doc)
    if not _gathering:
        _write_documents()


def emitted() -> int:
    """Return how many documents this process has emitted."""
    return _emitted


@contextmanager
def one_document(*, wanted: bool) -> Iterator[None]:
    """Let whatever is emitted within become one document, written at the end, also of a block that raises.

    Several become ``countersign.documents/v1`` with a list of them. A block within another adds to that one's.
    """
    global _gathering  # noqa: PLW0603 - one process has one stdout
    if not wanted or _gathering:
        yield
        return
    _gathering = True
    try:
        yield
    finally:
        _gathering = False
        _write_documents()


def _write_documents() -> None:
    found = [*_documents]
    _documents.clear()
    if not found:
        return
    doc = found[0] if len(found) == 1 else {"version": "countersign.documents/v1", "documents": found}
    _stdout(json.dumps(doc, indent=2).replace("\x7f", "\\u007f"))


def _stdout(text: str) -> None:
    if sys.stdout is None:
        raise InfrastructureError("is closed", where="stdout", do="give it to a file or a terminal")
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


@contextmanager
def progress(text: str) -> Iterator[Callable[[str], None]]:
    """Show that something is being done, then ``✓`` or ``✗`` and the time.

    On a TTY that is a spinner, otherwise a line every ten seconds. What is yielded takes how far it is, as a text.
    """
    start = time.monotonic()
    try:
        with _alive(text, start) as far:
            yield far
    except BaseException:
        failed(text, time.monotonic() - start)
        raise
    done(text, time.monotonic() - start)


@contextmanager
def _alive(text: str, start: float) -> Iterator[Callable[[str], None]]:
    console = _terminal()
    if console.is_terminal and not console.is_dumb_terminal:
        from rich.text import Text

        with console.status(Text(clean.line(text))) as status:
            yield lambda far: status.update(Text(clean.line(f"{text}: {far}")))
        return
    told = [text]
    ended = threading.Event()

    def tell() -> None:
        while not ended.wait(SIGN_OF_LIFE):
            say(f"  {told[-1]}, {time.monotonic() - start:.0f}s …")

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield lambda far: told.append(f"{text}: {far}")
    finally:
        ended.set()
        teller.join()


def _marked(mark: str, style: str, text: str, seconds: float | None) -> None:
    from rich.text import Text

    line = Text.assemble((mark, style), " ", clean.line(text))
    if seconds is not None:
        line.append(f" {seconds:.1f}s", style="dim")
    _terminal().print(line)


def spinners() -> Progress | None:
    """Return where several things at once are shown as being done; None where the terminal cannot."""
    console = _terminal()
    if not console.is_terminal or console.is_dumb_terminal:
        return None
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
    return Progress(*columns, console=console, transient=True)
