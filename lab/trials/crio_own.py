"""CRI-O's own engine, asked at pull in a CRI-O that set-up made."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace

from countersign.console.config import Settings
from countersign.console.errors import CountersignError
from countersign.cri.errors import CriError
from countersign.nodes.host import HostNode
from crio.runtime import Crio
from lab.trials import differences, matrix
from lab.trials.crio_place import CrioPlace
from lab.trials.engines import OWN, EngineRow, judge, rows, verdict
from lab.trials.lab import Lab
from lab.trials.library import reference
from lab.trials.model import load, sample
from lab.trials.rows import Found, Outcome, Series


def series(settings: Settings, machine: Crio, images: Callable[[], Lab]) -> Series:
    """Return the trials of the engine alone: the gate says nothing at pull there."""
    known = differences.load()
    strict = CrioPlace(replace(machine, engine="strict"), settings.policy, "own")
    pulled = [case for case in load() if case.way == "pull" and not strict.why_not(case)]

    def attempt(asked: Sequence[EngineRow]) -> Generator[Outcome, None, None]:
        lab = images()
        with strict as place:
            place.set_policy(lab.strict)
            try:
                for row in asked:
                    yield judge(row, _pull(place, reference(lab, row.image)), known)
            finally:
                place.restore_policy()
                matrix.empty(place)

    everything = rows(OWN, pulled)
    node = machine.node.name
    found = Series(OWN, "crio", node, everything, attempt, "./inv crio.test", at=machine, known=(known, "crio"))
    return found if node == HostNode.name else replace(found, sample=lambda rows: sample(rows, lambda row: [row.code]))


def _pull(place: CrioPlace, wanted: str) -> Found:
    message = None
    try:
        place.pull(wanted)
    except CriError as error:
        message = error.message
    found = verdict(message)
    if found is None:
        raise CountersignError(str(message), where=wanted, expected="a verdict")
    return found
