"""The page and the document, written beside the documents that they are made of."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

from countersign.console import clean
from countersign.console.errors import MissingError
from lab.report import plot
from lab.report.model import Report, choices, load

HERE = Path(__file__).resolve().parent
COLUMNS = ("kind", "runtime", "node", "layer", "image")
"""What can be filtered by."""


def write(state: Path) -> Path:
    """Write ``index.html`` and ``report.json`` into ``<state>/report``, and return the page's path.

    Raises:
        MissingError: nothing has been run yet.
        InfrastructureError: a document cannot be read.
    """
    folder = state / "report"
    found = load(folder) if folder.is_dir() else None
    if found is None or not found.rows:
        raise MissingError("nothing has been run yet", where=str(folder), do="run ./inv all.e2e")
    page = folder / "index.html"
    page.write_text(render(found), encoding="utf-8")
    (folder / "report.json").write_text(json.dumps(found.as_json(), indent=2) + "\n", encoding="utf-8")
    return page


def render(report: Report) -> str:
    """Return the page: one file that loads nothing, and whose policy lets it load nothing.

    Every value is cleaned and escaped; names and messages come from registries and runtimes.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(HERE),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        finalize=clean.for_page,
    )
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    return environment.get_template("page.html.j2").render(
        report=report,
        plot=plot.starts(report.bench) if report.bench else None,
        filters={name: choices(report.rows, name) for name in COLUMNS},
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
    )


def _hash(content: str) -> str:
    """Return a source of a content security policy (CSP level 3, hash-source)."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
