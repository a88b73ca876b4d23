"""A runtime that nobody has heard of passes the trials by its adapter alone, and each flaw of its gate is found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from countersign.console.config import Settings
from countersign.console.errors import VerdictError
from lab.trials import lab, runtimes
from lab.trials.runtimes import Trials, run_all
from tests.unit.trials.toy import IMAGES, Toy, images


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder, with the toy in the table of runtimes and its images built."""

    def toy(_: Settings, runtime: Any) -> Trials:
        return Trials(runtime, runtime)

    built = images(tmp_path / "images", Toy.registries)
    monkeypatch.setitem(runtimes.RUNTIMES, "toy", toy)
    monkeypatch.setattr(lab, "of", lambda settings, place: built)
    return tmp_path


def rows(state: Path) -> dict[str, dict[str, Any]]:
    document = json.loads((state / "report" / "matrix-toy-memory.json").read_text())
    return {row["id"]: row for row in document["rows"]}


def test_a_third_runtime_passes_the_whole_matrix_of_what_it_can_do(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_all(Settings(state=state), "toy", Toy(), [], json=False, all_rows=True)
    told = capsys.readouterr().err
    assert told.count("pulled, started, and answers") == 2
    assert "2 rows: there is no Docker Hub in memory" in told
    found = rows(state)
    assert {row["image"] for row in found.values()} == {*IMAGES} - {"app"}
    assert {row["code"]["actual"] for row in found.values()} == {
        *("OK", "ACCEPTED_BY_SCOPE", "PINNED_DIGEST", "UNSIGNED", "NO_SCOPE", "REJECTED_BY_SCOPE", "NOT_WHAT_RUNS"),
        *("NO_RECORD", "GATE_DOWN", "TIMEOUT", "NO_EVIDENCE_OFFLINE", "UNSUPPORTED_RUNTIME"),
    }
    assert found["unsigned/pull"]["layer"]["actual"] == "pull"


@pytest.mark.parametrize(
    ("flaw", "row", "difference", "good"),
    [
        ("allows", "unsigned/cached", "it ran", "bundle/cached"),
        ("believes the name", "unsigned/repointed", "it ran", "bundle/repointed_back"),
        ("fails open", "bundle/gate_stopped", "it ran", "bundle/gate_back"),
        ("gives no reason", "unsigned/import", "the runtime's error carries no reason code", "bundle/import"),
        ("logs nothing", "unsigned/volume", "the gate logged no verdict for it", "bundle/gate_stopped"),
    ],
)
def test_a_flaw_of_its_gate_is_found_and_what_it_does_not_touch_is_good(
    state: Path, flaw: str, row: str, difference: str, good: str
) -> None:
    with pytest.raises(VerdictError, match=r"rows came out otherwise; repeat with \./inv toy\.test --only") as raised:
        run_all(Settings(state=state), "toy", Toy(flaw), [row, good], json=False)
    assert raised.value.exit_code == 1
    found = rows(state)
    assert any(text.startswith(difference) for text in found[row]["differences"]), found[row]
    assert found[good]["differences"] == []
