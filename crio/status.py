"""How CRI-O is at a place, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from console.errors import CountersignError
from crio import doctor
from crio.machine import Machine
from enforcement.doctor import NotEnforced
from enforcement.report import document as runtimes

if TYPE_CHECKING:
    from console.config import Settings

VERSION = "countersign.crio-status/v1"


def document(settings: Settings, place: str, machines: Sequence[Machine]) -> dict[str, Any]:
    """Return the document of ``crio.status --json``.

    ``ok`` is true when every service runs, CRI-O answers, the gate has a policy in force, and nothing that
    doctor looks at would let a container start unseen; ``problems`` has what it found.

    Args:
        settings: the user's.
        place: as ``--on`` names it.
        machines: one a node.
    """
    services = [each for machine in machines for each in machine.ways.services(machine)]
    found = runtimes(place, settings.state, services, machines, version=VERSION)
    problems = [{"node": machine.node.name, "problem": text} for machine in machines for text in _problems(machine)]
    return {**found, "ok": found["ok"] and not problems, "problems": problems}


def _problems(machine: Machine) -> list[str]:
    try:
        doctor.examine(machine)
    except NotEnforced as error:
        return [str(problem) for problem in error.problems]
    except CountersignError as error:
        return [str(error)]
    return []
