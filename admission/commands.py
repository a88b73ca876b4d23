"""Tasks: Kyverno or Gatekeeper before the gate, on the Kind cluster."""

from __future__ import annotations

from invoke.context import Context

from countersign.console import output
from countersign.console.config import settings_from
from countersign.console.task import task

JSON = "one JSON document on stdout"
ENGINE = "kyverno (the default) or gatekeeper"
PLAN = "list the steps and change nothing"


@task(help={"engine": ENGINE, "keep": "keep what there is when a step fails", "plan": PLAN, "json": JSON})
def setup(
    context: Context, engine: str = "kyverno", keep: bool = False, plan: bool = False, json: bool = False
) -> None:
    """Install Kyverno or Gatekeeper with the policy, from signed images that pass the gate; prove that it refuses.

    Example: ./inv containerd.setup --on kind admission.setup
    """
    from admission.engines import engine_of
    from countersign.console.steps import run_steps

    found = engine_of(engine, settings_from(context))
    existed = found.existed()
    wanted = found.steps()
    try:
        results = run_steps(wanted, plan=plan)
        if not plan:
            with output.progress("the API server takes a signed image, and refuses one that nobody signed"):
                found.prove()
    except BaseException:
        if not (existed or keep or plan):
            found.removed().apply()
        raise
    if not plan:
        for limit in found.limits():
            output.say(f"  {limit}")
    if json:
        changed = sum(each.changed for each in results)
        named = [{"name": each.name, "changed": each.changed, "seconds": round(each.seconds, 3)} for each in results]
        output.emit_json({"version": "countersign.steps/v1", "plan": plan, "changed": changed, "steps": named})


@task(help={"engine": ENGINE, "json": JSON})
def status(context: Context, engine: str = "kyverno", json: bool = False) -> None:
    """Show whether the engine runs and decides by the policy; exit code 4 when it does not.

    Example: ./inv admission.status
    """
    from admission.engines import engine_of, report, require_up

    found = engine_of(engine, settings_from(context))
    shown = report(found)
    if json:
        output.emit_json(shown)
    else:
        output.table(("what", "state"), [(each["name"], each["state"]) for each in shown["parts"]])
    require_up(found)


@task(help={"engine": ENGINE, "plan": PLAN})
def clean(context: Context, engine: str = "kyverno", plan: bool = False) -> None:
    """Take Kyverno or Gatekeeper and its policy away again; the gate goes on deciding.

    Example: ./inv admission.clean
    """
    from admission.engines import engine_of
    from countersign.console.steps import run_steps

    run_steps([engine_of(engine, settings_from(context)).removed()], plan=plan)
