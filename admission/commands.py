"""Tasks: Kyverno before the gate, on the Kind cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from countersign.console.task import task

if TYPE_CHECKING:
    from invoke.context import Context

JSON = "one JSON document on stdout"
PLAN = "list the steps and change nothing"


@task(help={"keep": "keep what there is when a step fails", "plan": PLAN, "json": JSON})
def setup(context: Context, keep: bool = False, plan: bool = False, json: bool = False) -> None:
    """Install Kyverno with the policy, from an image that is signed and passes the gate; prove that it refuses.

    Example: ./inv containerd.setup --on kind admission.setup
    """
    from admission.kyverno import Kyverno
    from admission.steps import deployment
    from countersign.console import output
    from countersign.console.config import settings_from
    from countersign.console.steps import run_steps
    from countersign.policy.kyverno import LIMITS

    found = Kyverno(settings_from(context))
    existed = deployment(found.kube) is not None
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
        for limit in LIMITS["kyverno"]:
            output.say(f"  {limit}")
    if json:
        changed = sum(each.changed for each in results)
        named = [{"name": each.name, "changed": each.changed, "seconds": round(each.seconds, 3)} for each in results]
        output.emit_json({"version": "countersign.steps/v1", "plan": plan, "changed": changed, "steps": named})


@task(help={"json": JSON})
def status(context: Context, json: bool = False) -> None:
    """Show whether Kyverno runs and decides by the policy; exit code 4 when it does not.

    Example: ./inv admission.status
    """
    from admission.kyverno import Kyverno
    from admission.report import report, require_up
    from countersign.console import output
    from countersign.console.config import settings_from

    kyverno = Kyverno(settings_from(context))
    found = report(kyverno)
    if json:
        output.emit_json(found)
    else:
        output.table(("what", "state"), [(each["name"], each["state"]) for each in found["parts"]])
    require_up(kyverno)


@task(help={"plan": PLAN})
def clean(context: Context, plan: bool = False) -> None:
    """Take Kyverno and its policy away again; the gate goes on deciding.

    Example: ./inv admission.clean
    """
    from admission.kyverno import Kyverno
    from countersign.console.config import settings_from
    from countersign.console.steps import run_steps

    run_steps([Kyverno(settings_from(context)).removed()], plan=plan)
