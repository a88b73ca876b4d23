"""Tasks: CRI-O under countersign's enforcement, on a Vagrant machine, any machine over SSH, or this host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from countersign.console.task import task

if TYPE_CHECKING:
    from invoke.context import Context

    from countersign.enforcement.several import Places
    from crio.backend import Backend

ON = "the place: vagrant (default), ssh://USER@HOST (several with commas between them), or host"
JSON = "one JSON document on stdout"
PLAN = "list the steps with a diff of each file, and change nothing"

DEMO = "also give a machine over SSH the demo's registries and key (this host has them anyway)"


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
    from countersign.console import output
    from countersign.console.config import settings_from
    from crio.setup_vm import setup_vm as run

    results = run(settings_from(context, on or None, room="crio"), kubernetes=kubernetes, plan=plan)
    if json:
        steps = [{"name": each.name, "changed": each.changed, "seconds": round(each.seconds, 3)} for each in results]
        changed = sum(each.changed for each in results)
        output.emit_json({"version": "countersign.steps/v1", "plan": plan, "changed": changed, "steps": steps})


@task(help={"on": ON, "demo": DEMO, "keep": "keep what there is when a step fails", "plan": PLAN, "json": JSON})
def configure(
    context: Context, on: str = "", demo: bool = False, keep: bool = False, plan: bool = False, json: bool = False
) -> None:
    """Bring CRI-O under enforcement: its own policy, gate, hook; prove that nothing runs unseen.

    Example: ./inv crio.configure --on ssh://root@192.0.2.7 --plan
    """
    from countersign.console import output
    from countersign.policy.commands import show_notes

    places = _places(context, on, demo=demo)
    results = places.set_up("configured", lambda place: place.configure(keep=keep, plan=plan), plan=plan)
    if not plan:
        show_notes(places.each[0].settings.policy)
    if json:
        steps = [
            {"place": place, "name": each.name, "changed": each.changed, "seconds": round(each.seconds, 3)}
            for place, steps in results.items()
            for each in steps
        ]
        changed = sum(bool(step["changed"]) for step in steps)
        output.emit_json({"version": "countersign.steps/v1", "plan": plan, "changed": changed, "steps": steps})


@task(help={"on": ON, "json": JSON})
def status(context: Context, on: str = "", json: bool = False) -> None:
    """Say whether every machine enforces, now; exit code 4 when one does not: what was found, wanted, and mends it.

    Example: ./inv crio.status --json
    """
    from countersign.console import output
    from countersign.console.errors import InfrastructureError
    from countersign.enforcement.report import answered
    from crio.status import VERSION

    wrong = []
    for place in _places(context, on).each:
        found = answered(place.report, place.settings.node, VERSION)
        if json:
            output.emit_json(found)
        else:
            rows = [
                (each["node"], each["name"], each["state"], each["pid"] or "", each["restarts"], each["lastEnd"])
                for each in found["services"]
            ]
            output.table(("node", "service", "state", "pid", "restarts", "last end"), rows)
            for each in found["runtimes"]:
                output.say(f"{each['node']}: CRI-O {each['version'] or each['error']}")
                output.say(f"{each['node']}: policy {each['policy'] or each['policyError']}")
            for each in found["problems"]:
                output.failed(f"{each['node']}: {each['problem']}; {each['do']}")
            for each in found["warnings"]:
                output.warn(f"{each['node']}: {each['warning']}")
        if not found["ok"]:
            wrong.append(found["place"])
    if wrong:
        raise InfrastructureError("not enforcing", where=", ".join(wrong), do="run ./inv crio.configure")


@task(help={"on": ON, "name": "crio, gate, or verdicts (the gate's verdict log)", "lines": "how many from the end"})
def logs(context: Context, on: str = "", name: str = "crio", lines: int = 40) -> None:
    """Print the end of a log on stdout.

    Example: ./inv crio.logs --name verdicts --lines 5
    """
    from countersign.console import output

    for place in _places(context, on).each:
        machine = place.machine()
        output.emit_end(machine.ways.log(machine, name), lines)


@task(help={"on": ON, "plan": PLAN})
def clean(context: Context, on: str = "", plan: bool = False) -> None:
    """Take it all away again; a machine that is not ours is as it was before. Keys stay.

    Example: ./inv crio.clean
    """
    _places(context, on).cleaned(lambda place: place.clean(plan=plan), plan=plan)


def _places(context: Context, on: str, *, demo: bool = False) -> Places[Backend]:
    from countersign.console.config import settings_from
    from crio.backend import open_places

    return open_places(settings_from(context, on or None, room="crio"), demo=demo)
