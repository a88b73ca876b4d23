"""The trials of a CRI-O that is set up: the gate's verdicts, those of CRI-O's own engine, and every way to start."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from countersign.console.errors import CountersignError, UsageError, VerdictError
from countersign.cri.errors import CriError
from lab.demo.registries import REFERRERS
from lab.trials import trial
from lab.trials.crio_place import CrioPlace
from lab.trials.crio_starts import STARTS, run_starts

if TYPE_CHECKING:
    from countersign.console.config import Settings
    from crio.machine import Machine
    from lab.trials.lab import Lab
    from lab.trials.model import Case

OWN, STARTED = "own/", "starts/"
NOT_HERE = frozenset(
    {
        *("retagged", "repointed", "repointed_back", "record_removed"),
        *("hooked_handler", "added_handler", "added_handler_gate_hung"),
        *("gate_stopped_at_start", "gate_hung_at_start"),
    }
)
"""Ways that give an image another name in the store, for which CRI-O has no call (`crio_starts` has its own); that
add a handler without the hook, which CRI-O has from one folder for all; and where the hook runs after create."""
NAMES = ("tag", "digest", "short")
OTHER_CODES = {
    "*/volume": "UNSUPPORTED_RUNTIME",  # not judged there
    "two_scopes_a/import": "BAD_SIGNATURE",  # no written name is kept: every name must allow it
}
"""Image and way → the code on CRI-O where it is another than on containerd."""


def rows() -> list[Case]:
    """Return the matrix as the gate must judge it on CRI-O: always at create, for CRI-O asks no one else at pull."""
    from lab.trials.model import load, reason_codes

    found = []
    for case in load():
        if case.way in NOT_HERE or case.name not in NAMES:
            continue
        code = OTHER_CODES.get(f"{case.image}/{case.way}") or OTHER_CODES.get(f"*/{case.way}", case.code)
        found.append(replace(case, code=code, allow=reason_codes()[code], layer="create"))
    return found


def images(place: CrioPlace | None = None) -> list[str]:
    """Return the images of the matrix, in its order; with a place, those that it can pull."""
    from lab.trials.model import load

    able = trial.possible(place, load()) if place else load()
    return list(dict.fromkeys(case.image for case in able))


def run_all(settings: Settings, machine: Machine, only: Sequence[str], *, json: bool) -> None:
    """Run and show the trials whose names begin with one of ``only``, or all.

    Raises:
        UsageError: nothing begins so.
        VerdictError: something came out otherwise than it must.
    """
    from countersign.console import output

    matrix = [case for case in rows() if _wanted(case.id, only)]
    own = [image for image in images(CrioPlace(machine, settings.policy)) if _wanted(OWN + image, only)]
    starts = [start for start in STARTS if _wanted(STARTED + start.name, only)]
    for name in only:
        if not any(each.startswith(name) for each in (*_names(matrix, own), *(STARTED + s.name for s in starts))):
            raise UsageError(
                f"nothing begins with {name!r}",
                where="--only",
                do="see lab/trials/matrix.yaml, lab/trials/crio_starts.py",
            )
    failures: list[VerdictError] = []
    if not only:
        for reference in trial.start_demo(CrioPlace(machine, settings.policy, "both")):
            output.done(f"{reference} pulled, started, and answers")
    if matrix:
        _noting(failures, lambda: trial.run_and_show(settings, CrioPlace(machine, settings.policy), matrix, json=json))
    if own:
        _noting(failures, lambda: run_own(settings, machine, own, whole=not only))
    if starts:
        _noting(
            failures,
            lambda: run_starts(settings, machine, trial.lab(settings, CrioPlace(machine, settings.policy)), starts),
        )
    if failures:
        raise failures[0] if len(failures) == 1 else VerdictError("; ".join(map(str, failures)))


def _noting(failures: list[VerdictError], work: Callable[[], object]) -> None:
    """Work, and let what comes after be tried too when a verdict was wrong."""
    try:
        work()
    except VerdictError as error:
        failures.append(error)


def _wanted(name: str, only: Sequence[str]) -> bool:
    return not only or any(name.startswith(each) for each in only)


def _names(matrix: Sequence[Case], own: Sequence[str]) -> list[str]:
    return [*(case.id for case in matrix), *(OWN + image for image in own)]


def run_own(settings: Settings, machine: Machine, chosen: Sequence[str], *, whole: bool) -> None:
    """Let CRI-O's own engine judge images at pull, and compare with the gate; the document goes to the report's folder.

    Raises:
        VerdictError: it says otherwise than the gate, and the reviewed list does not have that.
    """
    from countersign.console import output
    from lab.trials import differences
    from lab.trials.model import load
    from lab.trials.native import agrees

    found = own_verdicts(settings, machine, chosen)
    expected = {case.image: case for case in load() if case.way == "pull" and case.name in NAMES}
    known = differences.load()
    table, wrong = [], 0
    for image, seen in found.items():
        case = expected[image]
        entry = None
        if seen["allow"] != case.allow:
            entry = known.excuse(image, "crio", allow=seen["allow"])
        good = seen["allow"] == case.allow and agrees(seen["code"], case.code)
        wrong += not good and entry is None
        note = f"differs: {entry.reason}" if entry else "✓" if good else "✗ " + seen["message"]
        table.append((image, _said(case.allow, case.code), _said(seen["allow"], seen["code"]), note))
    output.table(("image", "gate", "CRI-O's own engine", ""), table, title=f"CRI-O's own engine on {machine.node.name}")
    unused = known.unused("crio") if whole else []
    if unused:
        raise VerdictError(
            f"{len(unused)} entries were not needed", where="lab/trials/differences.yaml", do="remove them"
        )
    if wrong:
        raise VerdictError(f"{wrong} images: CRI-O's own engine says otherwise", where="lab/trials/differences.yaml")
    output.done(f"{len(found)} images: CRI-O's own engine says what it must")


def own_verdicts(settings: Settings, machine: Machine, chosen: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return image → ``allow``, ``code`` and ``message`` of CRI-O's own engine at pull; writes them down."""
    lab = trial.lab(settings, CrioPlace(machine, settings.policy))
    strict = replace(machine, engine="strict")
    found: dict[str, dict[str, Any]] = {}
    with CrioPlace(strict, settings.policy, "own") as place:
        place.set_policy(lab.strict)
        try:
            for image in chosen:
                found[image] = _own(place, lab, image)
        finally:
            CrioPlace.restore_policy(place)
            place.empty([f"{REFERRERS}/{path}/" for path in ("cases", "elsewhere")])
    path = settings.state / "report" / f"crio-native-{machine.node.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    document: Mapping[str, Any] = {
        "version": "countersign.verdicts/v1",
        "engine": "crio-native",
        "node": machine.node.name,
        "images": found,
    }
    path.write_text(jsonlib.dumps(document, indent=2) + "\n", encoding="utf-8")
    return found


def _own(place: CrioPlace, lab: Lab, image: str) -> dict[str, Any]:
    from lab.trials.library import reference
    from lab.trials.native import code_of

    wanted = reference(lab, image)
    try:
        place.pull(wanted)
    except CriError as error:
        code = code_of(error.message)
        if not code:
            raise CountersignError(error.message, where=wanted, expected="a verdict") from error
        return {"allow": False, "code": code, "message": error.message}
    return {"allow": True, "code": "OK", "message": ""}


def _said(allow: bool, code: str) -> str:
    return f"{'allow' if allow else 'refuse'} {code}"
