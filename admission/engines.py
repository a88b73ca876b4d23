"""Which engines there are at admission, and what ``admission.status`` shows of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from countersign.console.config import Settings
from countersign.console.errors import InfrastructureError, UsageError

if TYPE_CHECKING:
    from admission.engine import AtAdmission


def engine_of(name: str, settings: Settings) -> AtAdmission:
    """Return an engine by its name.

    Raises:
        UsageError: there is none of that name.
    """
    from admission.gatekeeper import Gatekeeper
    from admission.kyverno import Kyverno

    for engine in (Kyverno, Gatekeeper):
        if engine.name == name:
            return engine(settings)
    raise UsageError(f"got {name!r}", where="--engine", expected="kyverno or gatekeeper")


def require_up(found: AtAdmission) -> None:
    """Raise InfrastructureError unless the engine runs and decides by the policy."""
    for part in report(found)["parts"]:
        if not part["ok"]:
            raise InfrastructureError(part["state"], where=part["name"], do=found.mended_by())


def report(found: AtAdmission) -> dict[str, Any]:
    """Return the document ``countersign.admission-status/v1``; ``ok`` is true when nothing is amiss."""
    parts = found.parts()
    return {
        "version": "countersign.admission-status/v1",
        "engine": found.name,
        "ok": all(good for _, good, _ in parts),
        "parts": [{"name": name, "ok": good, "state": state} for name, good, state in parts],
    }
