"""One way for all trials: rows are chosen, tried and shown, and one that came out otherwise ends with exit code 1."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from containerd.instance import instance
from countersign.console.config import Settings
from countersign.console.errors import InfrastructureError, UsageError, VerdictError
from lab.trials import runner
from lab.trials.differences import Difference, Differences
from lab.trials.model import Case
from lab.trials.rows import Found, Outcome, Series, compare

ROW = Case("unsigned", "import", "tag", "referrers", "UNSIGNED", layer="create")
TWIN = replace(ROW, image="bundle", code="OK")
REFUSED = Found(False, "create", "UNSIGNED", "countersign: refused x@y: UNSIGNED: nothing", millis=12.0)
RAN = Found(True, "create", "OK", millis=12.0, gate_millis=1.0)


def series(folder: Path, found: Found = REFUSED, twin: Found = RAN) -> Series:
    came = {ROW: found, TWIN: twin}

    def attempt(rows: Sequence[Case]) -> Generator[Outcome, None, None]:
        yield from (compare(row, came[row]) for row in reversed(rows))

    return Series("matrix", "toy", "n1", (ROW, TWIN), attempt, "./inv toy.test", at=instance(folder))


def document(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "report" / "matrix-toy-n1.json").read_text())
    return found


def test_rows_as_they_must_be_end_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runner.run(Settings(state=tmp_path), [series(tmp_path)], json=True)
    found = json.loads(capsys.readouterr().out)
    assert found == document(tmp_path)
    assert (found["version"], found["kind"], found["passed"], found["failed"]) == (
        *("countersign.trials/v1", "matrix"),
        *(2, 0),
    )
    assert [row["id"] for row in found["rows"]] == ["unsigned/import", "bundle/import"], "in the order of the rows"
    assert found["rows"][0]["code"] == {"expected": "UNSIGNED", "actual": "UNSIGNED"}
    assert not (tmp_path / "artifacts").exists()


def test_a_row_that_came_out_otherwise_is_an_error_with_artifacts_and_the_command_to_repeat(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(VerdictError, match=r"1 of 2 .* \./inv toy\.test --only unsigned/import$") as raised:
        runner.run(Settings(state=tmp_path), [series(tmp_path, replace(RAN, code=""))])
    assert raised.value.exit_code == 1
    assert "unsigned/import: it ran" in capsys.readouterr().err
    assert (document(tmp_path)["passed"], document(tmp_path)["failed"]) == (1, 1)
    assert [path.is_dir() for path in (tmp_path / "artifacts").iterdir()] == [True]


def test_one_wrong_series_does_not_hide_the_next(tmp_path: Path) -> None:
    wrong = series(tmp_path, REFUSED, replace(REFUSED, code="GATE_DOWN"))
    with pytest.raises(VerdictError) as raised:
        runner.run(Settings(state=tmp_path), [replace(wrong, kind="first"), replace(wrong, kind="second")])
    assert str(raised.value).count("1 of 2 rows came out otherwise") == 2


def test_what_cannot_be_tried_there_is_named_and_not_tried(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = replace(series(tmp_path), why_not=lambda row: "no such way" if row is TWIN else "")
    runner.run(Settings(state=tmp_path), [there])
    assert "1 rows: no such way" in capsys.readouterr().err
    assert document(tmp_path)["passed"] == 1


def test_a_run_that_breaks_off_puts_the_place_right_and_writes_no_document(tmp_path: Path) -> None:
    closed = []

    def attempt(_: Sequence[Case]) -> Generator[Outcome, None, None]:
        try:
            yield compare(ROW, REFUSED)
            raise InfrastructureError("is not there")
        finally:
            closed.append(True)

    with pytest.raises(InfrastructureError):
        runner.run(Settings(state=tmp_path), [replace(series(tmp_path), attempt=attempt)])
    assert closed == [True]
    assert not (tmp_path / "report").exists()


def test_rows_are_chosen_by_the_beginning_of_their_names(tmp_path: Path) -> None:
    matrix, other = series(tmp_path), replace(series(tmp_path), kind="other", rows=(replace(ROW, way="pull"),))
    assert runner.select([matrix, other], []) == [(matrix, [ROW, TWIN]), (other, [*other.rows])]
    assert runner.select([matrix, other], ["unsigned/"]) == [(matrix, [ROW]), (other, [*other.rows])]
    assert runner.select([matrix, other], ["bundle"]) == [(matrix, [TWIN])]
    with pytest.raises(UsageError, match="no row begins with 'nothing'"):
        runner.select([matrix], ["unsigned/", "nothing"])


@pytest.mark.parametrize(("only", "told"), [((), True), (("bundle",), True), (("unsigned",), False)])
def test_a_run_needs_every_reviewed_difference_of_the_images_that_it_tries(
    tmp_path: Path, only: tuple[str, ...], told: bool
) -> None:
    entry = Difference(image="bundle", engine="crio", says="refuse", decides="pull", reason="because")
    listed = replace(series(tmp_path), known=(Differences([entry]), "crio"))
    if told:
        with pytest.raises(VerdictError, match="excused, and no difference: bundle"):
            runner.run(Settings(state=tmp_path), [listed], only)
    else:
        runner.run(Settings(state=tmp_path), [listed], only)


@pytest.mark.parametrize(
    ("row", "found", "differences"),
    [
        (ROW, REFUSED, ()),
        (ROW, RAN, ("it ran",)),
        (TWIN, replace(REFUSED, message="no"), ("it was refused: no",)),
        (ROW, replace(REFUSED, code="NO_SCOPE"), ("code NO_SCOPE, expected UNSIGNED",)),
        (ROW, replace(REFUSED, code=""), ("code ?, expected UNSIGNED",)),
        (ROW, replace(REFUSED, layer="pull"), ("pull decided, expected create",)),
        (TWIN, replace(RAN, code="ACCEPTED_BY_SCOPE"), ("code ACCEPTED_BY_SCOPE, expected OK",)),
    ],
)
def test_a_difference_is_told(row: Case, found: Found, differences: tuple[str, ...]) -> None:
    assert compare(row, found).differences == differences


@pytest.mark.parametrize(("by_name", "command"), [(True, " --only unsigned/import"), (False, "")])
def test_the_command_that_repeats_names_rows_where_its_task_can(tmp_path: Path, by_name: bool, command: str) -> None:
    assert replace(series(tmp_path), by_name=by_name).repeat([ROW]) == f"./inv toy.test{command}"
