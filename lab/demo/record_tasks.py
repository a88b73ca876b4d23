"""Task: the demo, recorded."""

from __future__ import annotations

from pathlib import Path

from invoke.context import Context

from countersign.console import output
from countersign.console.config import ROOT
from countersign.console.task import task

TITLE = "countersign: what nobody signed does not start"
SHOWN = (
    ("./inv", "containerd.setup", "--on", "host"),
    ("./inv", "containerd.sign", "--on", "host"),
    *(("./inv", "containerd.test", "--on", "host", "--only", row) for row in ("bundle/import", "unsigned/import")),
)
CLEAN = ("./inv", "containerd.clean", "--on", "host")


@task(help={"out": "where to: PREFIX.cast and PREFIX.svg (default: docs/demo)"})
def record(_context: Context, out: str = "") -> None:
    """Run the demo on this host and record it: a cast for asciinema, and a picture of how it ends.

    Example: ./inv demo.record
    """
    from lab.demo import recording

    prefix = Path(out) if out else ROOT / "docs" / "demo"
    with output.progress("the demo is run"):
        try:
            events = recording.record(SHOWN)
        finally:
            recording.record([CLEAN])
    for name, text in (("cast", recording.cast(events, TITLE)), ("svg", recording.picture(events, TITLE))):
        path = prefix.with_suffix(f".{name}")
        path.write_text(text, encoding="utf-8")
        output.done(str(path))
