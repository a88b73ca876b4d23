"""Tests on real machines are tried once more where none but such failed; any other failure stands."""

from __future__ import annotations

import pytest

from tests import parts
from tests.failures import CheckFailed

MACHINE, UNIT = "tests/kind/test_preinstalled.py::test_a", "tests/unit/test_b.py::test_b"


class Runs:
    """Pytest, as it ends each time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, failed: list[str], *codes: int) -> None:
        self.codes = list(codes)
        self.words: list[list[str]] = []
        monkeypatch.setattr(parts, "_pytest", self)
        monkeypatch.setattr(parts, "_last_failed", lambda: failed)

    def __call__(self, words: list[str]) -> int:
        self.words.append(list(words))
        return self.codes.pop(0)


def test_a_test_on_a_machine_that_failed_is_tried_once_more_and_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = Runs(monkeypatch, [MACHINE], 1, 0)
    parts.pytest(["tests/kind"])
    assert runs.words == [["tests/kind"], ["--last-failed", "tests/kind"]]
    assert MACHINE in capsys.readouterr().err


def test_one_that_fails_again_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    Runs(monkeypatch, [MACHINE], 1, 1)
    with pytest.raises(CheckFailed, match="ended with 1"):
        parts.pytest(["tests/kind"])


@pytest.mark.parametrize(("failed", "code"), [([UNIT], 1), ([MACHINE, UNIT], 1), ([MACHINE], 2), ([], 1), ([], 5)])
def test_any_other_failure_stands(monkeypatch: pytest.MonkeyPatch, failed: list[str], code: int) -> None:
    runs = Runs(monkeypatch, failed, code)
    with pytest.raises(CheckFailed, match=f"ended with {code}"):
        parts.pytest(["tests"])
    assert len(runs.words) == 1
