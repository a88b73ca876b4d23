"""What ``admission.status`` shows, as data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from admission import steps
from countersign.console.errors import InfrastructureError

if TYPE_CHECKING:
    from admission.kyverno import Kyverno


def require_up(found: Kyverno) -> None:
    """Raise InfrastructureError unless Kyverno runs and decides by the policy."""
    for part in report(found)["parts"]:
        if not part["ok"]:
            raise InfrastructureError(part["state"], where=part["name"], do="run ./inv admission.setup")


def report(found: Kyverno) -> dict[str, Any]:
    """Return the document ``countersign.admission-status/v1``; ``ok`` is true when nothing is amiss."""
    from admission.kyverno import rendered

    controller = steps.deployment(found.kube)
    policy = found.kube.get(steps.POLICY, steps.NAME)
    runs = controller is not None and steps.running(controller)
    parts = [("Kyverno's admission controller", runs, "runs" if runs else "down" if controller else "missing")]
    if policy is None:
        parts.append(("policy", False, "missing"))
    else:
        same, ready = steps.holds(rendered(found.settings.policy), policy), steps.ready(policy)
        state = "differs from policy.yaml" if not same else "in force" if ready else "not ready"
        parts.append(("policy", same and ready, state))
    return {
        "version": "countersign.admission-status/v1",
        "ok": all(good for _, good, _ in parts),
        "parts": [{"name": name, "ok": good, "state": state} for name, good, state in parts],
    }
