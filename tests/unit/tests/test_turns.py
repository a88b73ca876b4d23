"""Heavy parts take turns, and nothing that is named or required by turn goes missing unseen."""

from __future__ import annotations

from dataclasses import replace

import pytest

from countersign.console.config import CheckSettings, Settings
from countersign.console.errors import UsageError
from tests import run, turns
from tests.parts import PARTS
from tests.turns import TURNS, off_turn

TAKING_TURNS = {name for group in TURNS for name in group}


def test_every_part_that_takes_turns_is_a_part() -> None:
    assert {part.name for part in PARTS} >= TAKING_TURNS


def test_each_part_gets_its_turn_and_the_others_wait() -> None:
    on = [TAKING_TURNS - off_turn("commit", number) for number in range(len(TURNS))]
    assert on == [set(group) for group in TURNS]


def test_nothing_waits_unless_it_is_asked_for() -> None:
    assert off_turn(CheckSettings().turn, 1) == set()


def test_a_turn_may_be_given_by_name() -> None:
    assert off_turn("kind, fuzz", 0) == TAKING_TURNS - {"kind", "fuzz"}


def test_a_name_that_takes_no_turns_is_refused() -> None:
    with pytest.raises(UsageError, match="expected all, commit, or some of"):
        off_turn("kind,lint", 0)


def settings(turn: str) -> Settings:
    return replace(Settings(), tests=CheckSettings(turn=turn))


def test_a_part_that_waits_is_named_and_not_missed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[str] = []
    monkeypatch.setattr(run, "_can_run", lambda part, _: True)
    monkeypatch.setattr(run, "_passes", lambda part, _: ran.__iadd__([part.name]) == ran)
    monkeypatch.setattr(run, "pytest", ran.extend)
    run.run_parts([], "all", settings("kind"))
    assert "guards" not in ran
    assert "tests/kind" in ran
    assert "tests/vagrant" not in ran
    assert "vagrant skipped: it is not this commit's turn" in capsys.readouterr().err


def test_a_part_that_is_named_runs_whoever_is_on_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    monkeypatch.setattr(run, "_can_run", lambda part, _: True)
    monkeypatch.setattr(run, "pytest", ran.extend)
    run.run_parts(["vagrant"], "", settings("kind"))
    assert ran == ["tests/vagrant"]


def test_scripts_are_told_which_parts_run() -> None:
    assert "vagrant" not in run.names([], settings("kind"))
    assert {"lint", "kind", "e2e"} <= set(run.names([], settings("kind")))


def test_the_commit_gives_a_number() -> None:
    assert turns.commit() >= 0
