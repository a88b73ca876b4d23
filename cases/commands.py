"""Tasks that span runtimes: the whole of what countersign does, on what this machine can carry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from console.task import task

if TYPE_CHECKING:
    from invoke.context import Context


@task(
    help={
        "on": "the place: host (kind, vagrant and ssh come later)",
        "json": "one JSON document on stdout: the matrix",
    }
)
def e2e(context: Context, on: str = "", json: bool = False) -> None:
    """Set up, sign, pull, start, and run the matrix; exit code 1 if a verdict is not the expected one.

    Example: ./inv all.e2e --on host
    """
    import time

    from console import output
    from containerd import commands as containerd

    start = time.monotonic()
    containerd.setup(context, on=on)
    containerd.sign(context, on=on)
    containerd.test(context, only=[], on=on, json=json)
    output.done("all.e2e", time.monotonic() - start)
