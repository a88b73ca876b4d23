"""Tasks: containerd under countersign's enforcement, at every kind of place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from countersign.console.task import task

if TYPE_CHECKING:
    from invoke.context import Context

    from containerd.backend import Backend
    from countersign.enforcement.several import Places

ON = "the place: host, kind, vagrant or ssh://USER@HOST (several with commas between them)"
JSON = "one JSON document on stdout"
PLAN = "list the steps and change nothing"
DEMO = "also give a machine over SSH the demo's registries and key (host and kind have them anyway)"


@task(help={"on": ON, "demo": DEMO, "keep": "keep what there is when a step fails", "plan": PLAN, "json": JSON})
def setup(
    context: Context, on: str = "", demo: bool = False, keep: bool = False, plan: bool = False, json: bool = False
) -> None:
    """Bring containerd under enforcement: gate, hook, verifier, policy; prove that nothing runs unseen.

    Example: ./inv containerd.setup --on ssh://root@192.0.2.7
    """
    from countersign.console import output
    from countersign.policy.commands import show_notes

    places = _places(context, on, demo=demo)
    results = places.set_up("set up", lambda place: place.setup(keep=keep, plan=plan), plan=plan)
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


@task(help={"on": "vagrant (default), which is made if there is none, or ssh://USER@HOST", "plan": PLAN, "json": JSON})
def setup_vm(context: Context, on: str = "", plan: bool = False, json: bool = False) -> None:
    """Bring a machine up and put containerd on it; one that the machine has stays as it is.

    Example: ./inv containerd.setup-vm --on vagrant
    """
    from containerd.setup_vm import setup_vm as run
    from countersign.console import output
    from countersign.console.config import settings_from

    results = run(settings_from(context, on or "vagrant"), plan=plan)
    if json:
        steps = [{"name": each.name, "changed": each.changed, "seconds": round(each.seconds, 3)} for each in results]
        changed = sum(each.changed for each in results)
        output.emit_json({"version": "countersign.steps/v1", "plan": plan, "changed": changed, "steps": steps})


@task(help={"on": ON, "json": JSON})
def status(context: Context, on: str = "", json: bool = False) -> None:
    """Say whether every node enforces, now; exit code 4 when one does not: what was found, wanted, and mends it.

    Example: ./inv containerd.status --json
    """
    from countersign.console import output
    from countersign.console.errors import InfrastructureError
    from countersign.enforcement.report import VERSION, answered

    wrong = []
    for place in _places(context, on).each:
        found = answered(place.report, place.settings.node, VERSION)
        if json:
            output.emit_json(found)
        else:
            _show_status(found)
        if not found["ok"]:
            wrong.append(found["place"])
    if wrong:
        raise InfrastructureError("not enforcing", where=", ".join(wrong), do="run ./inv containerd.setup")


def _show_status(found: dict[str, Any]) -> None:
    from countersign.console import output

    rows = [
        (each["node"], each["name"], each["state"], each["pid"] or "", each["restarts"], each["lastEnd"])
        for each in found["services"]
    ]
    output.table(("node", "service", "state", "pid", "restarts", "last end"), rows)
    for each in found["runtimes"]:
        output.say(f"{each['node']}: containerd {each['version'] or each['error']}")
        output.say(f"{each['node']}: policy {each['policy'] or each['policyError']}")
    for each in found["problems"]:
        output.failed(f"{each['node']}: {each['problem']}; {each['do']}")
    for each in found["warnings"]:
        output.warn(f"{each['node']}: {each['warning']}")


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
    from countersign.console import output

    for place in _places(context, on).each:
        output.emit_end(place.log(name), lines)


@task(help={"on": ON, "plan": PLAN})
def clean(context: Context, on: str = "", plan: bool = False) -> None:
    """Take it all away again: processes, mounts, cgroups, files; keys stay.

    Example: ./inv containerd.clean
    """
    _places(context, on).cleaned(lambda place: place.clean(plan=plan), plan=plan)


def _places(context: Context, on: str, *, demo: bool = False) -> Places[Backend]:
    from containerd.backend import open_places
    from countersign.console.config import settings_from

    return open_places(settings_from(context, on or None), demo=demo)
