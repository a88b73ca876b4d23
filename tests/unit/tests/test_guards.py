"""Rows of the guards' table can be run, and one that no test holds is found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from countersign.console.config import Settings
from countersign.console.errors import UsageError
from tests import guards
from tests.failures import CheckFailed
from tests.guards import Guard


def test_every_row_stands_in_its_file_once() -> None:
    for guard in guards.guards():
        assert guard.text()


def test_rows_have_names_of_their_own() -> None:
    names = [guard.name for guard in guards.guards()]
    assert sorted(set(names)) == sorted(names)


def test_a_row_whose_line_is_gone_is_named() -> None:
    with pytest.raises(CheckFailed, match="stands there 0 times"):
        replace(guards.guards()[0], line="no such line").text()


def test_runs_take_turns_and_all_is_all() -> None:
    rows = guards.guards()
    assert guards.chosen("2", 0) == rows[:2]
    assert guards.chosen("2", len(rows) - 1) == [rows[-1], rows[0]]
    assert guards.chosen("all", 7) == rows
    with pytest.raises(UsageError, match="expected a number or all"):
        guards.chosen("some", 0)


@pytest.mark.parametrize(
    ("test", "twin", "found"),
    [
        ("failed", "passed", ""),
        ("passed", "passed", "expected it to fail"),
        ("failed", "failed", "expected it to pass"),
        ("ended otherwise: panic", "passed", "expected it to fail"),
    ],
)
def test_a_guard_is_held_by_a_test_that_fails_and_a_twin_that_passes(
    test: str, twin: str, found: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    row = Guard("a guard", "gate/a.go", "if bad {", "if false {", "TestBad", "TestGood")
    monkeypatch.setattr(guards, "chosen", lambda count, commit: [row])
    monkeypatch.setattr(guards, "_go", lambda guard, settings: (test, twin))
    settings = replace(Settings(), state=tmp_path)
    if not found:
        guards.check(settings, "all", 0)
        return
    with pytest.raises(CheckFailed, match="a guard"):
        guards.check(settings, "all", 0)


def test_what_needs_no_row_refuses_and_has_none() -> None:
    reasons = guards.needless()
    assert sorted(set(reasons) - set(guards.uncovered(guards.guards()))) == []
    assert all(reasons.values())


def test_a_function_that_refuses_without_a_row_is_listed() -> None:
    rows = guards.guards()
    covered = next(row for row in rows if row.file.endswith("bind/container.go"))
    with_row, without = set(guards.uncovered(rows)), set(guards.uncovered([r for r in rows if r.file != covered.file]))
    assert without - with_row
    assert all(site.startswith("gate/internal/bind/container.go: ") for site in without - with_row)
