"""What ``admission.status`` shows, as data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from countersign.console.errors import InfrastructureError

if TYPE_CHECKING:
    from admission.engine import AtAdmission


def require_up(found: AtAdmission) -> None:
    """Raise InfrastructureError unless the engine runs and decides by the policy."""
    for part in report(found)["parts"]:
        if not part["ok"]:
            do = f"run ./inv admission.setup --engine {found.name}"
            raise InfrastructureError(part["state"], where=part["name"], do=do)


def report(found: AtAdmission) -> dict[str, Any]:
    """Return the document ``countersign.admission-status/v1``; ``ok`` is true when nothing is amiss."""
    parts = found.parts()
    return {
        "version": "countersign.admission-status/v1",
        "engine": found.name,
        "ok": all(good for _, good, _ in parts),
        "parts": [{"name": name, "ok": good, "state": state} for name, good, state in parts],
    }
