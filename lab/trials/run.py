"""Run the matrix on a place: phases that prepare the node, and one trial a row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lab.trials.lab import SHORT
from lab.trials.ways import WAYS, Trial, attempt

if TYPE_CHECKING:
    from lab.trials.lab import Lab
    from lab.trials.model import Case
    from lab.trials.place import Place

UNLOGGED = {"GATE_DOWN", "TIMEOUT"}
"""Codes that the hook gives because no gate answered: there is no line in the verdict log."""


@dataclass(frozen=True)
class Outcome:
    """A row, what came out, and how the two differ.

    Attributes:
        case: the row.
        trial: what the runtime did.
        verdict: the gate's own log line for the decision; None where the gate was kept silent.
        differences: one sentence for each thing that is not as the row says; empty is good.
    """

    case: Case
    trial: Trial
    verdict: dict[str, Any] | None
    differences: tuple[str, ...]

    @property
    def code(self) -> str:
        """The code that came out: the runtime's error says it, or else the gate's log."""
        return self.trial.code or (str(self.verdict["code"]) if self.verdict else "")


def run(place: Place, lab: Lab, cases: Sequence[Case], each: Callable[[Outcome], None]) -> list[Outcome]:
    """Run rows, way by way, and return their outcomes in that order.

    Args:
        place: the runtime under enforcement.
        lab: the built images and policies.
        cases: the rows; their ways decide what is prepared.
        each: called after every row, for progress.

    The store of the runtime is emptied of the matrix's images first and last, and the user's
    policy is put back whatever happens.
    """
    outcomes = []
    try:
        for case in _prepared(place, lab, cases):
            place.verdicts()  # those of the preparation
            trial = attempt(WAYS[case.way], place, lab, case)
            outcome = judge(case, trial, place.verdicts())
            outcomes.append(outcome)
            each(outcome)
    finally:
        place.restore_policy()
        _empty(place)
    return outcomes


def judge(case: Case, trial: Trial, verdicts: Sequence[dict[str, Any]]) -> Outcome:
    """Compare what came out with what the row says: verdict, code, layer, and the gate's log."""
    verdict = _deciding(trial, verdicts)
    differences = []
    if trial.allow != case.allow:
        differences.append("it started" if trial.allow else f"it was refused: {trial.message}")
    if trial.layer != case.layer:
        differences.append(f"{trial.layer} decided, expected {case.layer}")
    if not trial.allow and not trial.code:
        differences.append("the runtime's error carries no reason code")
    if verdict is None:
        if case.code not in UNLOGGED:
            differences.append("the gate logged no verdict for it")
        elif trial.code != case.code:
            differences.append(f"code {trial.code}, expected {case.code}")
    else:
        differences += _compare(case, trial, verdict)
    return Outcome(case, trial, verdict, tuple(differences))


def _compare(case: Case, trial: Trial, verdict: dict[str, Any]) -> Iterator[str]:
    for what, got, expected in (
        ("code", verdict["code"], case.code),
        ("layer", verdict["layer"], case.layer),
        ("verdict", verdict["allow"], case.allow),
    ):
        if got != expected:
            yield f"{what} {got} in the log, expected {expected}"
    if trial.code and trial.code != verdict["code"]:
        yield f"code {trial.code} in the error, {verdict['code']} in the log"


def _deciding(trial: Trial, verdicts: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the log line of the decision.

    At pull that is the last one. At create there is one for the container's image and one for each of its
    image volumes: a refusal decides, wherever it stands.
    """
    own = [verdict for verdict in verdicts if verdict["layer"] == trial.layer]
    if trial.layer == "create" and trial.container:  # CRI-O judges before a container has an ID
        own = [verdict for verdict in own if verdict.get("container") == trial.container]
    refusals = [verdict for verdict in own if not verdict["allow"]]
    decisions = refusals or own
    return decisions[-1] if decisions else None


def _prepared(place: Place, lab: Lab, cases: Sequence[Case]) -> Iterator[Case]:
    """Yield the rows, each with the node as its way needs it."""
    by_way = {way: [case for case in cases if case.way == way] for way in WAYS}
    imported, pulled = by_way.pop("import"), by_way.pop("pull")
    cached = [case for rows in by_way.values() for case in rows]
    _empty(place)
    if imported:
        place.set_policy(lab.strict)
        place.import_images(lab.archive(imported))
        yield from imported
        _empty(place)
    if cached:
        place.set_policy(lab.lax)
        for reference in lab.needed(cached):
            place.pull(reference)
        place.set_policy(lab.strict)
        yield from cached
        _empty(place)
    if pulled:
        place.set_policy(lab.strict)
        yield from pulled


def _empty(place: Place) -> None:
    hosts = (*place.registries.values(), SHORT)
    place.empty([f"{host}/{path}/" for host in hosts for path in ("cases", "elsewhere")])
