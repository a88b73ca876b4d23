"""How a run of the matrix ends: with a table, and with exit code 1 when a row came out otherwise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from containerd.instance import instance
from countersign.console.config import Settings
from countersign.console.errors import UsageError, VerdictError
from lab.trials import trial
from lab.trials.containerd_place import ContainerdPlace
from lab.trials.model import Case
from lab.trials.run import judge
from lab.trials.ways import Trial

ROW = Case("unsigned", "import", "tag", "referrers", "UNSIGNED", allow=False, layer="create")
LOGGED = {"layer": "create", "container": "c1", "code": "UNSIGNED", "allow": False, "ms": 1.0}
REFUSED = Trial(False, "create", "UNSIGNED", 12.0, "c1", "countersign: refused x@y: UNSIGNED: nothing")
STARTED = Trial(True, "create", "", 12.0, "c1", "")


def show(folder: Path, monkeypatch: pytest.MonkeyPatch, result: Trial) -> None:
    outcome = judge(ROW, result, [LOGGED])
    monkeypatch.setattr(trial, "run_matrix", lambda *_: ([outcome], folder / "matrix.json"))
    place = ContainerdPlace(instance(folder), folder / "policy.yaml")
    trial.run_and_show(Settings(state=folder), place, [ROW], json=True)


def test_rows_as_they_must_be_end_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    show(tmp_path, monkeypatch, REFUSED)
    document = json.loads(capsys.readouterr().out)
    assert (document["passed"], document["failed"]) == (1, 0)
    assert not (tmp_path / "artifacts").exists()


def test_one_row_that_came_out_otherwise_is_an_error_with_artifacts_and_the_command_to_repeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(VerdictError, match="--only unsigned/import") as raised:
        show(tmp_path, monkeypatch, STARTED)
    assert raised.value.exit_code == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["failed"] == 1
    assert "it started" in captured.err
    assert [path.is_dir() for path in (tmp_path / "artifacts").iterdir()] == [True]


def test_rows_are_chosen_by_the_beginning_of_their_name() -> None:
    assert {case.image for case in trial.chosen(["unsigned/", "pinned/import"])} == {"unsigned", "pinned"}
    assert len(trial.chosen([])) > len(trial.chosen(["unsigned/"]))
    with pytest.raises(UsageError, match="no row begins with"):
        trial.chosen(["unsigned/", "nothing"])
