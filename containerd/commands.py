"""Tasks: a private containerd on this host under countersign's enforcement."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from console.task import task

if TYPE_CHECKING:
    from invoke.context import Context

    from console.config import Settings
    from containerd.instance import Instance

ON = "the place: host (kind, vagrant and ssh come later)"
JSON = "one JSON document on stdout"
PLAN = "list the steps and change nothing"


@task(help={"on": ON, "keep": "keep what there is when a step fails", "plan": PLAN, "json": JSON})
def setup(context: Context, on: str = "", keep: bool = False, plan: bool = False, json: bool = False) -> None:
    """Start containerd with gate, hook, verifier and the demo's registries; prove that nothing runs unseen.

    Example: ./inv containerd.setup
    """
    from console import output
    from console.config import record_place
    from console.steps import run_steps
    from containerd import setup as actions
    from containerd.lifecycle import removed_on_failure

    settings, instance = _place(context, on)
    actions.check(settings, instance)
    prepared = actions.prepare(settings, instance)
    with removed_on_failure(instance, keep=keep or plan):
        results = run_steps(instance.node, actions.steps(prepared), plan=plan)
        if not plan:
            with output.progress("an image without a signature is refused at pull and at start"):
                actions.prove(instance)
            record_place(settings.state, instance.node.name)
    if json:
        steps = [{"name": each.name, "changed": each.changed, "seconds": round(each.seconds, 3)} for each in results]
        changed = sum(each.changed for each in results)
        output.emit_json({"version": "countersign.steps/v1", "plan": plan, "changed": changed, "steps": steps})


@task(help={"on": ON, "key": "private key (default: keys/cosign.key of the configuration)"})
def sign(context: Context, on: str = "", key: str = "") -> None:
    """Push the demo image to both registries and sign it in both formats; a second time adds nothing.

    Example: ./inv containerd.sign
    """
    from containerd.trial import push_demo
    from signing import commands as signing

    settings, instance = _place(context, on)
    instance.require_up()
    signing.sign(context, image=[str(image) for image in push_demo(settings)], key=key)


@task(
    iterable=["only"],
    help={"on": ON, "only": "rows whose name begins so (may be given more than once)", "json": JSON},
)
def test(context: Context, only: list[str], on: str = "", json: bool = False) -> None:  # noqa: PT028 - a task
    """Start the signed demo, then run the matrix; exit code 1 if a verdict is not the expected one.

    Example: ./inv containerd.test --only unsigned/import --only bundle
    """
    from console import output
    from containerd import trial

    settings, instance = _place(context, on)
    instance.require_up()
    cases = trial.chosen(only)
    if not only:
        for reference in trial.start_demo(settings, instance):
            output.done(f"{reference} pulled, started, and answers")
    trial.run_and_show(settings, instance, cases, json=json)


@task(help={"on": ON, "json": JSON})
def status(context: Context, on: str = "", json: bool = False) -> None:
    """Show services, runtime and the policy in force; exit code 4 when anything is down.

    Example: ./inv containerd.status --json
    """
    from console import output
    from console.errors import InfrastructureError
    from containerd.report import report

    _, instance = _place(context, on)
    found = report(instance)
    if json:
        output.emit_json(found)
    else:
        rows = [
            (each["name"], each["state"], each["pid"] or "", each["restarts"], each["lastEnd"])
            for each in found["services"]
        ]
        output.table(("service", "state", "pid", "restarts", "last end"), rows)
        output.say(f"socket   {found['socket']}")
        output.say(f"runtime  containerd {found['runtime']['version'] or found['runtime']['error']}")
        output.say(f"policy   {found['gate']['policy'] or found['gate']['error']}")
    if not found["ok"]:
        raise InfrastructureError("not everything is up", where=found["node"], do="run ./inv containerd.setup")


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
    _, instance = _place(context, on)
    for line in _tail(instance, name, lines):
        print(line)  # noqa: T201 - the log is what was asked for


@task(help={"on": ON, "plan": PLAN})
def clean(context: Context, on: str = "", plan: bool = False) -> None:
    """Take it all away again: processes, mounts, cgroups, files; keys stay.

    Example: ./inv containerd.clean
    """
    from console.steps import run_steps
    from containerd.clean import check, steps

    _, instance = _place(context, on)
    check(instance)
    run_steps(instance.node, steps(instance), plan=plan)


def _place(context: Context, on: str) -> tuple[Settings, Instance]:
    """Return the settings and the instance that they mean; so far there is one kind of place."""
    from console.config import settings_from
    from console.errors import UsageError
    from containerd.instance import instance

    settings = settings_from(context, on or None)
    if settings.node not in {"auto", "host"}:
        raise UsageError(f"got {settings.node!r}", where="node", expected="host: other places are not supported yet")
    return settings, instance(settings.state)


def _tail(instance: Instance, name: str, lines: int) -> Iterator[str]:
    from pathlib import Path

    from console.errors import UsageError
    from containerd.instance import SERVICES

    if name not in {*SERVICES, "verdicts"}:
        raise UsageError(f"got {name!r}", where="--name", expected=", ".join((*SERVICES, "verdicts")))
    path = Path(instance.layout.verdicts if name == "verdicts" else f"{instance.layout.log}/{name}.log")
    if not path.is_file():
        raise UsageError("there is no such log yet", where=str(path), do="run ./inv containerd.setup")
    yield from instance.node.get(str(path)).decode(errors="replace").splitlines()[-max(lines, 0) :]
