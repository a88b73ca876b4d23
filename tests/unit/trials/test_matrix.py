"""The matrix as data, and how an outcome is compared with its row."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from countersign.console.errors import UsageError
from lab.trials import ways
from lab.trials.images import PREDICATES
from lab.trials.lab import SIGNED_AUXILIARIES
from lab.trials.marks import Mark
from lab.trials.matrix import judge
from lab.trials.model import Case, images, load
from lab.trials.rows import Found, reason_codes

ROOT = Path(__file__).resolve().parents[3]
ROW = Case("unsigned", "import", "tag", "referrers", "UNSIGNED", layer="create")
SAID = "countersign: refused x@y: UNSIGNED: nothing"
REFUSED = Found(False, "create", "UNSIGNED", SAID, millis=12.0, container="c1")
LOGGED = {"layer": "create", "container": "c1", "code": "UNSIGNED", "allow": False, "ms": 1.0}


def test_every_row_names_an_image_and_a_way_that_exist() -> None:
    for case in load():
        assert case.image in images(), case.id
        assert case.way in ways.WAYS, case.id


def test_every_image_is_used_and_every_predicate() -> None:
    used = {case.image for case in load()} | set(SIGNED_AUXILIARIES)
    assert set(images()) == used
    marks = [step for entry in images().values() for step in entry.made if isinstance(step, Mark)]
    assert {mark.predicate for mark in marks} == set(PREDICATES)


def test_a_row_that_no_pull_check_sees_is_decided_at_create() -> None:
    assert {case.layer for case in load() if case.way != "pull"} == {"create"}
    assert {case.layer for case in load() if case.way == "pull" and not case.allow} == {"pull"}


def test_an_outcome_as_the_row_says_has_no_differences() -> None:
    assert judge(ROW, REFUSED, [LOGGED]).differences == ()


def test_the_refusal_of_an_image_volume_decides_wherever_it_stands_in_the_log() -> None:
    own = {**LOGGED, "code": "OK", "allow": True}
    for verdicts in ([own, LOGGED], [LOGGED, own]):
        assert judge(ROW, REFUSED, verdicts).differences == ()
    assert judge(ROW, REFUSED, [own, own]).differences != ()


@pytest.mark.parametrize(
    ("trial", "verdicts", "difference"),
    [
        (replace(REFUSED, allow=True, code=""), [LOGGED], "it ran"),
        (replace(REFUSED, layer="pull"), [LOGGED], "pull decided"),
        (replace(REFUSED, code="NO_SCOPE"), [LOGGED], "NO_SCOPE in the error"),
        (replace(REFUSED, code=""), [LOGGED], "no reason code"),
        (REFUSED, [], "no verdict"),
        (REFUSED, [{**LOGGED, "container": "c2"}], "no verdict"),
        (REFUSED, [{**LOGGED, "code": "BAD_SIGNATURE"}], "BAD_SIGNATURE in the log"),
        (REFUSED, [{**LOGGED, "allow": True}], "verdict True"),
    ],
)
def test_an_outcome_that_differs_in_one_thing_says_which(
    trial: Found, verdicts: list[dict[str, object]], difference: str
) -> None:
    assert any(difference in text for text in judge(ROW, trial, verdicts).differences)


def test_a_silent_gate_is_judged_by_the_error_alone() -> None:
    row = replace(ROW, code="GATE_DOWN")
    assert judge(row, replace(REFUSED, code="GATE_DOWN"), []).differences == ()
    assert judge(row, replace(REFUSED, code="TIMEOUT"), []).differences == ("code TIMEOUT, expected GATE_DOWN",)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{image: unsigned, way: cached, code: NOPE}", "unknown reason code"),
        ("{image: unsigned, way: cached, code: OK}\n  - {image: unsigned, way: cached, code: OK}", "is a duplicate"),
    ],
)
def test_a_matrix_with_a_mistake_is_refused(tmp_path: Path, row: str, message: str) -> None:
    path = tmp_path / "matrix.yaml"
    path.write_text(f"images: {{}}\nrows:\n  - {row}\n")
    with pytest.raises(UsageError, match=message):
        load(path)


def test_go_and_json_spell_the_reason_codes_the_same() -> None:
    source = (ROOT / "gate" / "internal" / "code" / "code.go").read_text()
    assert re.findall(r'Code = "([A-Z_]+)"', source) == list(reason_codes())
