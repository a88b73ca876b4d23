"""Tasks: containerd under countersign's enforcement, at every kind of place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from countersign.console.task import task

if TYPE_CHECKING:
    from invoke.context import Context

    from countersign.enforcement.several import Places
    from countersign.runtimes.place import Place

ON = "the place: host, kind, vagrant or ssh://USER@HOST (several with commas between them)"
JSON = "one JSON document on stdout"
PLAN = "list the steps and change nothing"
DEMO = "also give a machine over SSH the demo's registries and key (host and kind have them anyway)"
WAVE = "how many of several machines are begun together; the next only when none of them failed (default: all)"


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
def setup(
    context: Context,
    on: str = "",
    demo: bool = False,
    wave: int = 0,
    keep: bool = False,
    plan: bool = False,
    json: bool = False,
) -> None:
    """Bring containerd under enforcement: gate, hook, verifier, policy; prove that nothing runs unseen.

    Example: ./inv containerd.setup --on ssh://root@192.0.2.7
    """
    from countersign.runtimes import verbs

    verbs.set_up(_places(context, on, demo=demo), keep=keep, plan=plan, json=json, wave=wave)


@task(help={"on": "vagrant (default), which is made if there is none, or ssh://USER@HOST", "plan": PLAN, "json": JSON})
def setup_vm(context: Context, on: str = "", plan: bool = False, json: bool = False) -> None:
    """Bring a machine up and put containerd on it; one that the machine has stays as it is.

    Example: ./inv containerd.setup-vm --on vagrant
    """
    from containerd.setup_vm import setup_vm as run
    from countersign.console.config import settings_from
    from countersign.runtimes import verbs

    verbs.made(run(settings_from(context, on or "vagrant"), plan=plan), plan=plan, json=json)


@task(help={"on": ON, "json": JSON})
def status(context: Context, on: str = "", json: bool = False) -> None:
    """Say whether every node enforces, now; exit code 4 when one does not: what was found, wanted, and fixes it.

    Example: ./inv containerd.status --json
    """
    from countersign.runtimes import verbs

    verbs.status(_places(context, on), json=json)


@task(
    help={
        "on": ON,
        "name": "containerd, gate, registry, registry-fallback, or verdicts (the gate's verdict log)",
        "lines": "how many lines from the end",
    }
)
def logs(context: Context, on: str = "", name: str = "containerd", lines: int = 40) -> None:
    """Print the end of a log on stdout.

    Example: ./inv containerd.logs --name verdicts --lines 5
    """
    from countersign.runtimes import verbs

    verbs.logs(_places(context, on), name, lines)


@task(help={"on": ON, "plan": PLAN})
def clean(context: Context, on: str = "", plan: bool = False) -> None:
    """Take it all away again: processes, mounts, cgroups, files; keys stay.

    Example: ./inv containerd.clean
    """
    from countersign.runtimes import verbs

    verbs.clean(_places(context, on), plan=plan)


def _places(context: Context, on: str, *, demo: bool = False) -> Places[Place]:
    from containerd.backend import open_place
    from countersign.console.config import settings_from
    from countersign.runtimes.verbs import open_places

    return open_places(settings_from(context, on or None), lambda one: open_place(one, demo=demo))
