"""Tasks: CRI-O under countersign's enforcement, on a Vagrant machine, any machine over SSH, or this host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from countersign.console.task import task

if TYPE_CHECKING:
    from invoke.context import Context

    from countersign.enforcement.several import Places
    from countersign.runtimes.place import Place

ON = "the place: vagrant (default), ssh://USER@HOST (several with commas between them), or host"
JSON = "one JSON document on stdout"
PLAN = "list the steps with a diff of each file, and change nothing"

DEMO = "also give a machine over SSH the demo's registries and key (this host has them anyway)"
WAVE = "how many of several machines are begun together; the next only when none of them failed (default: all)"


@task(
    help={
        "on": "the machine: vagrant (default), which is made if there is none, or ssh://USER@HOST",
        "kubernetes": "also make it a cluster of one node, with kubeadm",
        "plan": "list the steps and change nothing",
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


@task(
    help={
        "on": ON,
        "demo": DEMO,
        "wave": WAVE,
        "keep": "keep what there is when a step fails",
        "plan": PLAN,
        "json": JSON,
    }
)
def configure(
    context: Context,
    on: str = "",
    demo: bool = False,
    wave: int = 0,
    keep: bool = False,
    plan: bool = False,
    json: bool = False,
) -> None:
    """Bring CRI-O under enforcement: its own policy, gate, hook; prove that nothing runs unseen.

    Example: ./inv crio.configure --on ssh://root@192.0.2.7 --plan
    """
    from countersign.runtimes import verbs

    verbs.set_up(_places(context, on, demo=demo), keep=keep, plan=plan, json=json, wave=wave)


@task(help={"on": ON, "json": JSON})
def status(context: Context, on: str = "", json: bool = False) -> None:
    """Say whether every machine enforces, now; exit code 4 when one does not: what was found, wanted, and fixes it.

    Example: ./inv crio.status --json
    """
    from countersign.runtimes import verbs

    verbs.status(_places(context, on), json=json)


@task(help={"on": ON, "name": "crio, gate, or verdicts (the gate's verdict log)", "lines": "how many from the end"})
def logs(context: Context, on: str = "", name: str = "crio", lines: int = 40) -> None:
    """Print the end of a log on stdout.

    Example: ./inv crio.logs --name verdicts --lines 5
    """
    from countersign.runtimes import verbs

    verbs.logs(_places(context, on), name, lines)


@task(help={"on": ON, "plan": PLAN})
def clean(context: Context, on: str = "", plan: bool = False) -> None:
    """Take it all away again; a machine that is not ours is as it was before. Keys stay.

    Example: ./inv crio.clean
    """
    from countersign.runtimes import verbs

    verbs.clean(_places(context, on), plan=plan)


def _places(context: Context, on: str, *, demo: bool = False) -> Places[Place]:
    from countersign.console.config import settings_from
    from countersign.runtimes.verbs import open_places
    from crio.backend import open_place

    return open_places(settings_from(context, on or None, room="crio"), lambda one: open_place(one, demo=demo))
