"""Tasks for a cluster of yours (they become ``rollout.image``)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from countersign.console.task import task

if TYPE_CHECKING:
    from invoke.context import Context


@task(
    help={
        "name": "the image's name, with a tag",
        "out": "OCI archive to write, whole or not at all",
        "json": "one JSON document on stdout",
    }
)
def image(context: Context, name: str = "", out: str = "", json: bool = False) -> None:
    """Write the image with which the chart brings gate and hook to a cluster's nodes; print it by digest.

    Example: ./inv rollout.image --name registry.example/countersign/gate:dev --out gate.tar
    """
    from countersign.console import output
    from countersign.console.config import settings_from
    from countersign.console.errors import UsageError
    from rollout.image import write

    if not name or not out:
        raise UsageError("--name and --out are both needed", do="see ./inv --help rollout.image")
    into = Path(out).expanduser()
    if not into.parent.is_dir():
        raise UsageError("there is no such folder", where=str(into.parent))
    written = write(settings_from(context), name, into)
    if json:
        output.emit_json({"version": "countersign.rollout-image/v1", "image": written, "archive": str(into)})
    else:
        output.done(f"{written} in {into}")
