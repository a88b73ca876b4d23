"""What the tasks of every runtime do: the same verbs, with one form of document each; a room's tasks only name them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from countersign.console import output
from countersign.console.errors import InfrastructureError
from countersign.enforcement.report import answered
from countersign.enforcement.several import opened

if TYPE_CHECKING:
    from collections.abc import Callable

    from countersign.console.config import Settings
    from countersign.console.steps import StepResult
    from countersign.enforcement.several import Came, Places
    from countersign.runtimes.place import Place

STEPS = "countersign.steps/v1"
DONE = {"setup": "set up", "configure": "configured"}
"""The task's verb → what was done then."""


def open_places(settings: Settings, open_place: Callable[[Settings], Place]) -> Places[Place]:
    """Return the configured places, whose names have commas between them; errors as ``open_place`` raises them."""
    return opened(settings, settings.room, open_place)


def set_up(places: Places[Place], *, keep: bool, plan: bool, json: bool, wave: int = 0) -> None:
    """Set all places up, or list what that would do; options as those of the task.

    Raises:
        UsageError: ``wave`` is not a number of machines.
    """
    from countersign.console.errors import UsageError
    from countersign.policy.commands import show_notes

    if wave < 0:
        raise UsageError(f"got {wave}", where="--wave", expected="0 (all together), or how many machines")
    done = DONE[places.each[0].adapter.verb]

    def tell(came: Came[list[StepResult]]) -> None:
        steps = [{"place": place, **_step(each)} for place, some in came.answers.items() for each in some]
        emit_steps(steps, plan=plan, machines=came.machines())

    places.set_up(
        done, lambda place: place.setup(keep=keep, plan=plan), plan=plan, wave=wave, tell=tell if json else None
    )
    if not plan:
        show_notes(places.each[0].settings.policy)


def made(results: Sequence[StepResult], *, plan: bool, json: bool) -> None:
    """Tell what came of the steps that made a machine."""
    if json:
        emit_steps([_step(each) for each in results], plan=plan)


def emit_steps(
    steps: Sequence[Mapping[str, Any]], *, plan: bool, machines: Sequence[Mapping[str, object]] = ()
) -> None:
    """Write the document of what steps did, and of the machines what came of each."""
    changed = sum(bool(step["changed"]) for step in steps)
    document = {"version": STEPS, "plan": plan, "changed": changed, "steps": list(steps)}
    output.emit_json(document | ({"machines": list(machines)} if machines else {}))


def _step(result: StepResult) -> dict[str, Any]:
    return {"name": result.name, "changed": result.changed, "seconds": round(result.seconds, 3)}


def status(places: Places[Place], *, json: bool) -> None:
    """Say of every place whether it enforces, now.

    Raises:
        InfrastructureError: one does not; the text names it.
    """
    wrong = []
    for place in places.each:
        found = answered(place.report, place.settings.node, place.adapter.status)
        if json:
            output.emit_json(found)
        else:
            _show(found, place.adapter.title)
        if not found["ok"]:
            wrong.append(found["place"])
    if wrong:
        raise InfrastructureError("not enforcing", where=", ".join(wrong), do=f"run {places.each[0].adapter.setup()}")


def _show(found: Mapping[str, Any], title: str) -> None:
    rows = [
        (each["node"], each["name"], each["state"], each["pid"] or "", each["restarts"], each["lastEnd"])
        for each in found["services"]
    ]
    output.table(("node", "service", "state", "pid", "restarts", "last end"), rows)
    for each in found["runtimes"]:
        output.say(f"{each['node']}: {title} {each['version'] or each['error']}")
        output.say(f"{each['node']}: policy {each['policy'] or each['policyError']}")
    for each in found["problems"]:
        output.failed(f"{each['node']}: {each['problem']}; {each['do']}")
    for each in found["warnings"]:
        output.warn(f"{each['node']}: {each['warning']}")


def logs(places: Places[Place], name: str, lines: int) -> None:
    """Print the end of a log of every place on stdout."""
    for place in places.each:
        output.emit_end(place.log(name), lines)


def clean(places: Places[Place], *, plan: bool) -> None:
    """Take it all away again, everywhere."""
    places.cleaned(lambda place: place.clean(plan=plan), plan=plan)
