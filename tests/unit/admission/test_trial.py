"""Both verdicts of an image are compared, and only what is listed may differ."""

from __future__ import annotations

from typing import Any

import pytest

from admission.gatekeeper import Gatekeeper
from admission.kyverno import Kyverno
from countersign.console.config import Settings
from lab.trials.admission import judge, rows, series
from lab.trials.differences import Difference, Differences
from lab.trials.document import document
from lab.trials.model import Case
from lab.trials.rows import Found

GOOD = Case("bundle", "pull", "tag", "referrers", "OK", "create")
ACCEPTED = Case("accepted", "pull", "tag", "referrers", "ACCEPTED_BY_SCOPE", "create")
BAD = Case("unsigned", "pull", "tag", "referrers", "UNSIGNED", "pull")


def on(*, allow: bool) -> Found:
    return Found(allow, "admission", "OK" if allow else "", "" if allow else "no signature")


def off(case: Case, *, allow: bool, code: str = "", layer: Any = "") -> Found:
    return Found(allow, layer or ("create" if allow else case.layer), code or ("OK" if allow else case.code))


def listed(case: Case, says: str) -> Differences:
    entry = {"image": case.image, "engine": "kyverno", "says": says, "decides": "pull", "reason": "because"}
    return Differences([Difference.model_validate(entry)])


def none() -> Differences:
    return Differences([])


@pytest.mark.parametrize("case", [GOOD, ACCEPTED, BAD])
def test_equal_verdicts_are_right(case: Case) -> None:
    outcomes = judge(case, on(allow=case.allow), off(case, allow=case.allow), none())
    assert [each.differences for each in outcomes] == [(), ()]


def test_kyverno_that_takes_what_the_gate_refuses_is_wrong_unless_it_is_listed() -> None:
    trial = BAD, on(allow=True), off(BAD, allow=False)
    wrong, gate = judge(*trial, none())
    assert wrong.differences == ("Kyverno takes it and the gate does not: ",)
    assert gate.differences == ()
    excused, _ = judge(*trial, listed(BAD, "allow"))
    assert (excused.differences, excused.excused) == ((), "pull decides: because")


def test_kyverno_that_refuses_what_the_gate_allows_is_wrong_unless_it_is_listed() -> None:
    trial = GOOD, on(allow=False), off(GOOD, allow=True)
    assert judge(*trial, none())[0].differences
    assert judge(*trial, listed(GOOD, "allow"))[0].differences, "it is listed the other way round"
    assert judge(*trial, listed(GOOD, "refuse"))[0].differences == ()


def test_what_is_listed_and_does_not_differ_is_unused() -> None:
    known = listed(BAD, "allow")
    judge(BAD, on(allow=False), off(BAD, allow=False), known)
    assert [entry.image for entry in known.unused("kyverno")] == ["unsigned"]


@pytest.mark.parametrize(
    ("found", "wrong"),
    [
        (off(BAD, allow=True), "it ran"),
        (off(BAD, allow=False, code="NO_SCOPE"), "code NO_SCOPE, expected UNSIGNED"),
        (off(BAD, allow=False, layer="create"), "create decided, expected pull"),
    ],
)
def test_a_wrong_verdict_of_the_gate_is_never_excused(found: Found, wrong: str) -> None:
    for known in (none(), listed(BAD, "allow"), listed(BAD, "refuse")):
        assert judge(BAD, on(allow=found.allow), found, known)[1].differences == (wrong,)


def test_every_image_that_a_pod_can_name_is_tried_under_a_name_of_its_own() -> None:
    assert len({row.id for row in rows()}) == len(rows())
    assert {row.image for row in rows()} >= {"bundle", "unsigned", "platform_only", "pinned"}
    assert {row.case.registry for row in rows()} == {"referrers", "fallback"}
    assert all(row.id.startswith(f"{row.image}/") for row in rows()), "--only IMAGE means both of its trials"


def test_the_document_shows_both_sides_and_what_is_excused() -> None:
    pair = judge(BAD, on(allow=True), off(BAD, allow=False), none())
    excused = judge(BAD, on(allow=True), off(BAD, allow=False), listed(BAD, "allow"))
    found = document(series(Kyverno(Settings())), [*pair, *excused])
    assert (found["kind"], found["passed"], found["failed"]) == ("admission", 3, 1)
    wrong, gate, right, _ = found["rows"]
    assert wrong["id"] == "unsigned/admission"
    assert wrong["allow"] == {"expected": False, "actual": True}
    assert gate["layer"] == {"expected": "pull", "actual": "pull"}
    assert right["excused"] == "pull decides: because"
    assert wrong["repeat"] == "./inv admission.test --only unsigned/admission"


def test_gatekeeper_has_a_document_and_differences_of_its_own() -> None:
    found = series(Gatekeeper(Settings()))
    assert (found.kind, found.command) == ("admission-gatekeeper", "./inv admission.test --engine gatekeeper")
    assert {row.way for row in found.rows} == {"Gatekeeper on", "Gatekeeper off"}
    trial = BAD, on(allow=True), off(BAD, allow=False)
    wrong, _ = judge(*trial, listed(BAD, "allow"), "gatekeeper", "Gatekeeper")
    assert wrong.differences == ("Gatekeeper takes it and the gate does not: ",), "that is excused for Kyverno alone"
