"""Which engines there are at admission."""

from __future__ import annotations

from typing import TYPE_CHECKING

from countersign.console.config import Settings
from countersign.console.errors import UsageError

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
