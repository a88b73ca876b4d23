"""Tasks: the report of all that was run."""

from __future__ import annotations

from pathlib import Path

from invoke.context import Context

from countersign.console import output
from countersign.console.config import ROOT, settings_from
from countersign.console.task import task


@task(help={})
def build(context: Context) -> None:
    """Write one HTML page and one JSON document of all that was run in this state folder; print the page's path.

    Example: ./inv report.build
    """
    from lab.report.write import write

    output.emit_text(str(write(settings_from(context).state)))


@task(help={"out": "the PNG file (default: docs/report.png)"})
def screenshot(context: Context, out: str = "") -> None:
    """Build the report and take a picture of it with Chromium, for the documentation.

    Example: ./inv report.screenshot --out /tmp/report.png
    """
    from lab.report.browser import picture
    from lab.report.write import write

    target = Path(out).resolve() if out else ROOT / "docs" / "report.png"
    picture(write(settings_from(context).state), target)
