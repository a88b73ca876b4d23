"""Tasks: containerd under countersign's enforcement, at every kind of place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from countersign.console.task import task
from countersign.runtimes.task_set import JSON, PLAN, Words, task_set

if TYPE_CHECKING:
    from invoke.context import Context

    from countersign.console.config import Settings
    from countersign.runtimes.place import Place


def _open(settings: Settings, demo: bool) -> Place:
    from containerd.backend import open_place

    return open_place(settings, demo=demo)


setup, status, logs, clean = task_set(
    "containerd",
    Words(
        verb="setup",
        about="Bring containerd under enforcement: gate, hook, verifier, policy",
        on="the place: host, kind, vagrant or ssh://USER@HOST (several with commas between them)",
        has_demo="host and kind have them",
        logs="containerd, gate, registry, registry-fallback, or verdicts (the gate's verdict log)",
    ),
    _open,
)


@task(help={"on": "vagrant (default), which is made if there is none, or ssh://USER@HOST", "plan": PLAN, "json": JSON})
def setup_vm(context: Context, on: str = "", plan: bool = False, json: bool = False) -> None:
    """Bring a machine up and put containerd on it; one that the machine has stays as it is.

    Example: ./inv containerd.setup-vm --on vagrant
    """
    from containerd.setup_vm import setup_vm as run
    from countersign.console.config import settings_from
    from countersign.runtimes import verbs

    verbs.made(run(settings_from(context, on or "vagrant"), plan=plan), plan=plan, json=json)
