from __future__ import annotations

from typing import Any

import pytest

from lab.trials.consistency import COLUMNS, NOT_RUN, compare
from lab.trials.differences import Difference, Differences
from lab.trials.model import Case

CASES = (
    Case("good", "pull", "tag", "referrers", "OK", layer="create"),
    Case("good", "import", "tag", "referrers", "OK", layer="create"),
    Case("bad", "pull", "tag", "referrers", "UNSIGNED", layer="pull"),
)
ENTRY = Difference(image="good", engine="crio", says="refuse", decides="pull", reason="it reads no bundle")


def matrix(runtime: str, image: str, code: str, *, allow: bool, way: str = "pull") -> dict[str, Any]:
    row = {"image": image, "way": way, "allow": {"actual": allow}, "code": {"actual": code}}
    return {"version": "countersign.trials/v1", "kind": "matrix", "runtime": runtime, "node": "n1", "rows": [row]}


def verdicts(engine: str, image: str, code: str, *, allow: bool) -> dict[str, Any]:
    return matrix("crio", image, code, allow=allow) | {"kind": engine}


def cells(documents: list[Any], *entries: Difference) -> dict[str, dict[str, str]]:
    found = compare(documents, CASES, Differences(entries))
    return {row.image: dict(zip(COLUMNS, row.cells, strict=True)) for row in found.rows}


def problems(documents: list[Any], *entries: Difference) -> list[str]:
    return compare(documents, CASES, Differences(entries)).problems


def test_each_document_fills_its_own_column_and_no_other() -> None:
    documents = [
        matrix("containerd", "good", "OK", allow=True),
        matrix("crio", "bad", "UNSIGNED", allow=False),
        verdicts("own", "bad", "UNSIGNED", allow=False),
        verdicts("library", "good", "OK", allow=True),
    ]
    nobody = [NOT_RUN, NOT_RUN]
    assert list(cells(documents)["good"].values()) == ["allow OK", NOT_RUN, NOT_RUN, "allow OK", *nobody]
    assert list(cells(documents)["bad"].values()) == [NOT_RUN, "refuse UNSIGNED", "refuse UNSIGNED", NOT_RUN, *nobody]
    assert not problems(documents)


def test_where_nothing_ran_the_table_says_so_and_nothing_is_wrong() -> None:
    found = compare([{"version": "another"}, ["no document"]], CASES, Differences(()))
    assert {cell for row in found.rows for cell in row.cells} == {NOT_RUN}
    assert not found.problems
    assert not found.of_others


@pytest.mark.parametrize("engine", ["own", "library"])
def test_a_difference_needs_its_entry(engine: str) -> None:
    documents = [verdicts(engine, "good", "UNSIGNED", allow=False)]
    (problem,) = problems(documents)
    assert problem.startswith("good: ")
    assert "refuse UNSIGNED" in problem
    assert not problems(documents, ENTRY)
    assert compare(documents, CASES, Differences([ENTRY])).rows[0].reason == "pull decides: it reads no bundle"


def test_an_entry_excuses_one_verdict_and_no_other_image() -> None:
    assert problems([verdicts("own", "bad", "OK", allow=True)], ENTRY)
    assert problems([verdicts("own", "good", "OK", allow=True)], ENTRY) == [
        "good: CRI-O's own engine says allow OK, which differences.yaml denies"
    ]


@pytest.mark.parametrize("runtime", ["containerd", "crio"])
def test_the_gate_has_no_excuse(runtime: str) -> None:
    assert problems([matrix(runtime, "good", "UNSIGNED", allow=False)], ENTRY)
    assert problems([matrix(runtime, "bad", "BAD_SIGNATURE", allow=False)])
    assert not problems([matrix(runtime, "bad", "UNSIGNED", allow=False)])


def test_only_pulled_images_are_compared() -> None:
    assert not problems([matrix("crio", "good", "BAD_SIGNATURE", allow=False, way="import")])
    assert problems([matrix("crio", "good", "BAD_SIGNATURE", allow=False)])


def test_two_nodes_that_disagree_are_both_shown() -> None:
    documents = [matrix("crio", "good", "OK", allow=True), matrix("crio", "good", "UNSIGNED", allow=False)]
    assert cells(documents)["good"]["CRI-O + gate"] == "allow OK / refuse UNSIGNED"
    assert len(problems(documents)) == 1


@pytest.mark.parametrize("engine", ["own", "library"])
def test_a_refusal_for_another_reason_is_no_agreement(engine: str) -> None:
    assert not problems([verdicts(engine, "bad", "UNSIGNED", allow=False)])
    (problem,) = problems([verdicts(engine, "bad", "REGISTRY_ERROR", allow=False)])
    assert problem.endswith("says refuse REGISTRY_ERROR, which cannot stand for UNSIGNED")


def at_admission(title: str, image: str, *, allow: bool, on: str = "on") -> dict[str, Any]:
    kind = "admission" if title == "Kyverno" else "admission-gatekeeper"
    return matrix("containerd", image, "", allow=allow, way=f"{title} {on}") | {"kind": kind}


@pytest.mark.parametrize("title", ["Kyverno", "Gatekeeper"])
def test_what_is_said_at_admission_is_compared(title: str) -> None:
    documents = [at_admission(title, "good", allow=True), at_admission(title, "bad", allow=False)]
    assert not problems(documents)
    assert cells(documents)["bad"][title].startswith("refuse")
    assert {cells(documents)["bad"][other] for other in COLUMNS if other != title} == {NOT_RUN}
    assert compare(documents, CASES, Differences(())).of_others
    (problem,) = problems([at_admission(title, "bad", allow=True)])
    assert problem.startswith(f"bad: {title} says allow")
    entry = Difference(image="bad", engine=title.lower(), says="allow", decides="pull", reason="it cannot")  # type: ignore[arg-type]
    assert not problems([at_admission(title, "bad", allow=True)], entry)
    assert problems([at_admission(title, "bad", allow=False)], entry)
    assert not problems([at_admission(title, "bad", allow=True, on="off")])  # that is the node's verdict
