"""The rows of the matrix on a place: phases that prepare the node, and one trial a row."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from typing import Any

from countersign.nodes.host import HostNode
from lab.trials.lab import SHORT, Lab
from lab.trials.model import Case, load, sample, shows
from lab.trials.place import Place
from lab.trials.rows import Found, Outcome, Series, compare
from lab.trials.ways import WAYS, attempt

UNLOGGED = {"GATE_DOWN", "TIMEOUT"}
"""Codes that the hook gives because no gate answered: there is no line in the verdict log."""
UNJUDGED = {"other_runtime"}
"""Ways that NRI refuses before anything is judged: likewise."""


def run(place: Place, lab: Lab, cases: Sequence[Case]) -> Generator[Outcome, None, None]:
    """Run rows, way by way, and yield their outcomes in that order.

    Args:
        cases: the rows; their ways decide what is prepared.

    The store of the runtime is emptied of the matrix's images first and last, and the user's
    policy is put back whatever happens.
    """
    try:
        for case in _prepared(place, lab, cases):
            place.verdicts()  # those of the preparation
            found = attempt(WAYS[case.way], place, lab, case)
            yield judge(case, found, place.verdicts())
    finally:
        place.restore_policy()
        empty(place)


def series(place: Place, images: Callable[[], Lab]) -> Series:
    """Return the matrix as trials of a place, whole on the host; ``images`` gives what it needs, built or found."""

    def attempt(cases: Sequence[Case]) -> Generator[Outcome, None, None]:
        lab = images()
        with place:
            yield from run(place, lab, cases)

    rows, command = place.rows(load()), f"./inv {place.runtime}.test"
    found = Series("matrix", place.runtime, place.node, rows, attempt, command, why_not=place.why_not, at=place.at)
    return found if place.node == HostNode.name else replace(found, sample=lambda rows: sample(rows, shows))


def judge(case: Case, found: Found, verdicts: Sequence[dict[str, Any]]) -> Outcome:
    """Compare what came out, and the gate's log of it, with what the row says.

    The runtime's error says the code of a refusal, and the log the code of what is allowed.
    """
    logged = _deciding(found, verdicts)
    more = [] if found.allow or found.code else ["the runtime's error carries no reason code"]
    if logged is None:
        if case.code not in UNLOGGED and case.way not in UNJUDGED:
            more.append("the gate logged no verdict for it")
        return compare(case, found, more)
    if logged["allow"] != found.allow:
        more.append(f"verdict {logged['allow']} in the log")
    if found.code and found.code != logged["code"]:
        more.append(f"code {found.code} in the error, {logged['code']} in the log")
    return compare(case, replace(found, code=found.code or str(logged["code"]), gate_millis=logged["ms"]), more)


def _deciding(found: Found, verdicts: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the log line of the decision.

    At pull that is the last one. At create there is one for the container's image and one for each of its
    image volumes: a refusal decides, wherever it stands.
    """
    own = [verdict for verdict in verdicts if verdict["layer"] == found.layer]
    if found.layer == "create" and found.container:  # CRI-O judges before a container has an ID
        own = [verdict for verdict in own if verdict.get("container") == found.container]
    refusals = [verdict for verdict in own if not verdict["allow"]]
    decisions = refusals or own
    return decisions[-1] if decisions else None


def _prepared(place: Place, lab: Lab, cases: Sequence[Case]) -> Iterator[Case]:
    """Yield the rows, each with the node as its way needs it."""
    by_way = {way: [case for case in cases if case.way == way] for way in WAYS}
    imported, pulled = by_way.pop("import"), by_way.pop("pull")
    cached = [case for rows in by_way.values() for case in rows]
    empty(place)
    if imported:
        place.set_policy(lab.strict)
        place.import_images(lab.archive(imported))
        yield from imported
        empty(place)
    if cached:
        place.set_policy(lab.lax)
        for reference in lab.needed(cached):
            place.pull(reference)
        place.set_policy(lab.strict)
        yield from cached
        empty(place)
    if pulled:
        place.set_policy(lab.strict)
        yield from pulled


def empty(place: Place) -> None:
    """Remove the matrix's images and all evidence from a place."""
    hosts = (*place.registries.values(), SHORT)
    place.empty([f"{host}/{path}/" for host in hosts for path in ("cases", "unscoped")])
