"""Both verdicts of an image are compared, and only what is listed may differ."""

from __future__ import annotations

from dataclasses import replace

import pytest

from countersign.console.errors import UsageError
from lab.trials.admission import ENGINE, Trial, chosen, compare, document
from lab.trials.differences import Difference, Differences
from lab.trials.model import Case

GOOD = Case("bundle", "pull", "tag", "referrers", "OK", True, "create")
BAD = Case("unsigned", "pull", "tag", "referrers", "UNSIGNED", False, "pull")


def on(case: Case, *, allow: bool) -> Trial:
    return Trial(case, True, allow, "admission", "OK" if allow else "", "" if allow else "no signature", 1.0)


def off(case: Case, *, allow: bool, code: str = "", layer: str = "") -> Trial:
    code = code or ("OK" if allow else case.code)
    return Trial(case, False, allow, layer or ("create" if allow else case.layer), code, "", 1.0)


def listed(case: Case, says: str) -> Differences:
    entry = {"image": case.image, "engine": ENGINE, "says": says, "decides": "pull", "reason": "because"}
    return Differences([Difference.model_validate(entry)])


def none() -> Differences:
    return Differences([])


@pytest.mark.parametrize("case", [GOOD, BAD])
def test_equal_verdicts_are_right(case: Case) -> None:
    outcomes = compare(on(case, allow=case.allow), off(case, allow=case.allow), none())
    assert [each.differences for each in outcomes] == [(), ()]


def test_kyverno_that_takes_what_the_gate_refuses_is_wrong_unless_it_is_listed() -> None:
    pair = on(BAD, allow=True), off(BAD, allow=False)
    wrong, gate = compare(*pair, none())
    assert wrong.differences == ("Kyverno takes it and the gate does not: ",)
    assert gate.differences == ()
    excused, _ = compare(*pair, listed(BAD, "allow"))
    assert excused.differences == ()
    assert excused.excused is not None


def test_kyverno_that_refuses_what_the_gate_allows_is_wrong_unless_it_is_listed() -> None:
    pair = on(GOOD, allow=False), off(GOOD, allow=True)
    assert compare(*pair, none())[0].differences
    assert compare(*pair, listed(GOOD, "allow"))[0].differences, "it is listed the other way round"
    assert compare(*pair, listed(GOOD, "refuse"))[0].differences == ()


def test_what_is_listed_and_does_not_differ_is_unused() -> None:
    known = listed(BAD, "allow")
    compare(on(BAD, allow=False), off(BAD, allow=False), known)
    assert [entry.image for entry in known.unused(ENGINE)] == ["unsigned"]


@pytest.mark.parametrize(
    ("trial", "wrong"),
    [
        (off(BAD, allow=True), "it ran"),
        (off(BAD, allow=False, code="NO_SCOPE"), "NO_SCOPE at pull, expected UNSIGNED at pull"),
        (off(BAD, allow=False, layer="create"), "UNSIGNED at create, expected UNSIGNED at pull"),
    ],
)
def test_a_wrong_verdict_of_the_gate_is_never_excused(trial: Trial, wrong: str) -> None:
    for known in (none(), listed(BAD, "allow"), listed(BAD, "refuse")):
        assert compare(on(BAD, allow=trial.allow), trial, known)[1].differences == (wrong,)


def test_every_image_that_a_pod_can_name_is_tried_under_a_name_of_its_own() -> None:
    cases = chosen([])
    trials = [replace(each, case=case) for case in cases for each in (on(GOOD, allow=True), off(GOOD, allow=True))]
    assert len({each.id for each in trials}) == len(trials)
    assert {case.image for case in cases} >= {"bundle", "unsigned", "platform_only", "pinned"}
    assert {case.registry for case in cases} == {"referrers", "fallback"}


def test_one_image_and_one_that_is_not_there() -> None:
    assert {case.image for case in chosen(["copied"])} == {"copied_attachment", "copied_bundle"}
    with pytest.raises(UsageError, match="no image begins with 'nothing'"):
        chosen(["nothing"])


def test_the_document_counts_and_shows_both_sides() -> None:
    pair = compare(on(BAD, allow=True), off(BAD, allow=False), none())
    excused = compare(on(BAD, allow=True), off(BAD, allow=False), listed(BAD, "allow"))
    found = document("countersign", [*pair, *excused])
    assert (found["version"], found["passed"], found["failed"]) == ("countersign.admission/v1", 3, 1)
    wrong, gate, right, _ = found["rows"]
    assert wrong["id"] == "admission/unsigned"
    assert wrong["allow"] == {"expected": False, "actual": True}
    assert gate["layer"] == {"expected": "pull", "actual": "pull"}
    assert right["allow"] == {"expected": True, "actual": True}
    assert right["excused"]["reason"] == "because"
    assert wrong["repeat"] == "./inv admission.test --only unsigned"
