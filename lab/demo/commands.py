"""Tasks: the lab on a place, for trying things out and for our own tests."""

from __future__ import annotations

from invoke.context import Context

from containerd import commands as containerd
from countersign.console.errors import UsageError
from countersign.console.task import task
from crio import commands as crio


@task(
    help={
        "on": "the place: host, kind, vagrant or ssh://USER@HOST (several with commas between them)",
        "runtime": "containerd or crio",
        "keep": "keep what there is when a step fails",
        "plan": "list the steps and change nothing",
        "json": "one JSON document on stdout",
    }
)
def setup(
    context: Context,
    on: str = "",
    runtime: str = "containerd",
    keep: bool = False,
    plan: bool = False,
    json: bool = False,
) -> None:
    """Set a place up as containerd.setup or crio.configure does, with the demo: two registries, a key, images.

    Example: ./inv lab.setup --on ssh://root@192.0.2.7
    """
    if runtime == "containerd":
        containerd.setup(context, on=on, demo=True, keep=keep, plan=plan, json=json)
    elif runtime == "crio":
        crio.configure(context, on=on, demo=True, keep=keep, plan=plan, json=json)
    else:
        raise UsageError(f"got {runtime!r}", where="--runtime", expected="containerd or crio")
