"""The bypass suite on CRI-O, side by side: what its own engine refuses alone, and what countersign does beside it.

It is tried on a CRI-O as set-up made it. Its own engine reads attachments alone, so what is honest there is signed in
both formats, as ``signing.sign`` does it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from countersign.console import output
from countersign.console.config import Settings
from countersign.console.errors import InfrastructureError
from crio.runtime import Crio
from lab.bench import gauges
from lab.bench.rival_place import NO_DAEMON
from lab.bench.rivals import Engine, document
from lab.trials import bypass, lab, matrix, model
from lab.trials.cri_place import CriPlace
from lab.trials.crio_place import CrioPlace
from lab.trials.model import Case

ALONE, STRICT, LENIENT = (
    "CRI-O's own engine",
    "countersign, `crio.engine: strict`",
    "countersign, `crio.engine: lenient`",
)
HONEST = {"bundle": "both"}
"""What is signed by a bundle alone → the same with an attachment beside it."""


class OwnEngine(CrioPlace):
    """A CRI-O whose own engine alone decides: the gate is asked, and accepts everything."""

    def __init__(self, machine: Crio, lax: Path) -> None:
        """Open the place; see `CrioPlace`."""
        super().__init__(machine, lax, "own")
        self._lax = lax

    def why_not(self, case: Case) -> str:
        """See `lab.trials.place.Place.why_not`."""
        if case.way in NO_DAEMON or case.way.startswith("hook_program_missing"):
            return "it runs no program that could stop or be gone"
        if case.way == "volume":
            return "the gate, which is there all the same, judges no volumes on CRI-O"
        return super().why_not(case)

    def set_policy(self, source: Path) -> None:
        """Give the engine a policy; the gate has one that accepts everything."""
        CriPlace.set_policy(self, self._lax)
        self._policy = source
        self.set_own(source)


def measure(settings: Settings, at: Crio) -> dict[str, Any]:
    """Try the suite on a CRI-O, and return the document ``countersign.bench-rivals/v1``.

    Args:
        settings: the user's; their policy is put back.
        at: as set-up made it, with the demo's registries.

    Raises:
        InfrastructureError: countersign did not do what the matrix says.
    """
    machine, suite = gauges.machine(), bypass.load()
    as_set_up = CrioPlace(at, settings.policy, "both")
    images = lab.of(settings, as_set_up)
    strict, lenient = (replace(at, engine=each) for each in ("strict", "lenient"))
    places = {
        ALONE: OwnEngine(strict, images.lax),
        STRICT: CrioPlace(strict, settings.policy, "both"),
        LENIENT: CrioPlace(lenient, settings.policy, "both"),
    }
    try:
        engines = [_engine(title, each, images, suite) for title, each in places.items()]
    finally:
        with as_set_up:
            as_set_up.restore_policy()
    with at.client() as client:
        machine |= {"loadAfter": gauges.load(), "programs": f"CRI-O {client.version().version}"}
    return document(suite, engines, 0, machine)


def _engine(title: str, place: CrioPlace, images: lab.Lab, suite: bypass.Suite) -> Engine:
    """Try the suite in a place.

    Raises:
        InfrastructureError: it is countersign's, and something came out otherwise than the matrix says.
    """
    wanted = [case for case in place.rows(model.load()) if case.id in suite.rows and not place.why_not(case)]
    tried = {case.id: honest(case) if title != LENIENT else case for case in wanted}
    with output.progress(f"{title}: attacks"):
        ran = _ran(place, images, list({case.id: case for case in tried.values()}.values()))
    wrong = [name for name, case in tried.items() if ran[case.id] != case.allow]
    if title == LENIENT and wrong:
        raise InfrastructureError("did not come out as the matrix says", where=", ".join(wrong), do="./inv crio.test")
    return Engine(title, {name: ran[case.id] for name, case in tried.items()})


def honest(case: Case) -> Case:
    """Return the row with an image that CRI-O's own engine can verify, where the row's is signed by a bundle alone."""
    return replace(case, image=HONEST.get(case.image, case.image))


def _ran(place: CrioPlace, images: lab.Lab, cases: Sequence[Case]) -> Mapping[str, bool]:
    with place, closing(matrix.run(place, images, cases)) as outcomes:
        return {outcome.row.id: outcome.found.allow for outcome in outcomes}
