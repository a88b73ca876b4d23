"""Tasks: CRI-O under countersign's enforcement, on a Vagrant machine, any machine over SSH, or this host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from countersign.console.task import task
from countersign.runtimes.task_set import JSON, PLAN, Words, task_set

if TYPE_CHECKING:
    from invoke.context import Context

    from countersign.console.config import Settings
    from countersign.runtimes.place import Place


def _open(settings: Settings, demo: bool) -> Place:
    from crio.backend import open_place

    return open_place(settings, demo=demo)


configure, status, logs, clean = task_set(
    "crio",
    Words(
        verb="configure",
        about="Bring CRI-O under enforcement: its own policy, gate, hook",
        on="the place: vagrant (default), ssh://USER@HOST (several with commas between them), or host",
        has_demo="this host has them",
        logs="crio, gate, or verdicts (the gate's verdict log)",
    ),
    _open,
)


@task(
    help={
        "on": "the machine: vagrant (default), which is made if there is none, or ssh://USER@HOST",
        "kubernetes": "also make it a cluster of one node, with kubeadm",
        "plan": PLAN,
        "json": JSON,
    }
)
def setup_vm(context: Context, on: str = "", kubernetes: bool = False, plan: bool = False, json: bool = False) -> None:
    """Bring a machine up and install CRI-O on it: from its official repository, or the binary that CRIO_BIN names.

    Example: ./inv crio.setup-vm --kubernetes
    """
    from countersign.console.config import settings_from
    from countersign.runtimes import verbs
    from crio.setup_vm import setup_vm as run

    results = run(settings_from(context, on or None, room="crio"), kubernetes=kubernetes, plan=plan)
    verbs.made(results, plan=plan, json=json)
