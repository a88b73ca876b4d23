"""Tasks: a policy to all nodes of a place, and what is in force there (they become ``policy.apply`` and ``.diff``)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from countersign.console.task import task

if TYPE_CHECKING:
    from invoke.context import Context

    from rollout.places import Target

_ON = "the place: host, kind, vagrant or ssh://USER@HOST (several with commas between them)"
_RUNTIME = "containerd (default) or crio: which of them was set up there"
_POLICY = "the policy (default: policy of the configuration)"
_JSON = "one JSON document on stdout"


@task(
    help={
        "on": _ON,
        "runtime": _RUNTIME,
        "policy": _POLICY,
        "key": "private key that signs it, for nodes with policyKeys (default: policy_key; password: COSIGN_PASSWORD)",
        "plan": "check it on every node, and change nothing",
        "json": _JSON,
    }
)
def apply(
    context: Context,
    on: str = "",
    runtime: str = "",
    policy: str = "",
    key: str = "",
    plan: bool = False,
    json: bool = False,
) -> None:
    """Put the policy in force on every node of a place: checked on all of them first, with the next serial.

    Example: ./inv policy.apply --on kind
    """
    import os

    from countersign.console import output
    from countersign.console.config import settings_from
    from countersign.keys.source import private_key
    from rollout.apply import apply as run

    found = _targets(context, on, runtime, policy)
    key = key or settings_from(context).policy_key
    results = run(found, private_key(key, os.environ) if key else None, plan=plan)
    changed = sum(each.changed for each in results)
    if json:
        nodes = [each.as_json() for each in results]
        output.emit_json({"version": "countersign.policy-apply/v1", "plan": plan, "changed": changed, "nodes": nodes})
        return
    for each in results:
        what = f"serial {each.serial}, {each.hash}"
        if not each.changed:
            output.skipped(f"{each.node}: {what}")
        elif plan:
            output.say(f"would: {each.node}: {what}")
        else:
            output.done(f"{each.node}: {what} ({each.seconds:.2f} s)")
    output.say(f"plan: {changed} to change, nothing was" if plan else f"{changed} changed")


@task(help={"on": _ON, "runtime": _RUNTIME, "policy": _POLICY, "json": _JSON})
def diff(context: Context, on: str = "", runtime: str = "", policy: str = "", json: bool = False) -> None:
    """Compare what is in force on every node of a place with the policy; exit code 1 when a node differs.

    Example: ./inv policy.diff --on kind
    """
    from countersign.console import output
    from countersign.console.errors import VerdictError
    from countersign.nodes.each import side_by_side
    from rollout.diff import compare

    results = side_by_side(compare, _targets(context, on, runtime, policy))
    others = [each.node for each in results if not each.same]
    if json:
        nodes = [each.as_json() for each in results]
        output.emit_json({"version": "countersign.policy-diff/v1", "same": not others, "nodes": nodes})
    else:
        for each in results:
            output.say(f"{each.node}: serial {each.serial}, {each.hash or 'no policy in force: everything is refused'}")
            if each.not_in_force:
                output.say("  the file on the node says what policy.yaml says, and is not in force")
            for difference in each.differences:
                output.say(f"  {difference}")
    if others:
        raise VerdictError("another policy is in force", where=", ".join(others), do="run ./inv policy.apply")


def _targets(context: Context, on: str, runtime: str, policy: str) -> list[Target]:
    from countersign.console.config import settings_from
    from rollout.places import targets

    settings = settings_from(context, on or None, room=runtime)
    return targets(settings, Path(policy).expanduser() if policy else settings.policy)
