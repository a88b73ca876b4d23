from pathlib import Path

import pytest

from countersign.console.config import Settings
from countersign.console.errors import MissingError, UsageError
from tests import run
from tests.failures import CheckFailed
from tests.parts import PARTS, Part


class Machine:
    """Parts that note that they ran; which of them lack something or fail can be said."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.lacking: set[str] = set()
        self.failing: set[str] = set()

    def part(self, name: str, folder: str = "") -> Part:
        return Part(name, lambda _: self._need(name), 1, None if folder else (lambda _: self._check(name)), folder)

    def pytest(self, folders: list[str]) -> None:
        self._check("pytest " + " ".join(folders))

    def _need(self, name: str) -> None:
        if name in self.lacking:
            raise MissingError(f"no {name} here")

    def _check(self, name: str) -> None:
        self.ran.append(name)
        if name in self.failing:
            raise CheckFailed(f"{name} found something")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    parts = (machine.part("lint"), machine.part("types"), machine.part("a", "tests"), machine.part("b", "tests/unit"))
    monkeypatch.setattr(run, "PARTS", parts)
    monkeypatch.setattr(run, "pytest", machine.pytest)
    return machine


def test_all_parts_run_and_pytest_once_at_the_end(machine: Machine) -> None:
    run.run_parts([], "all", Settings())
    assert machine.ran == ["lint", "types", "pytest tests tests/unit"]


def test_only_chosen_parts_run(machine: Machine) -> None:
    run.run_parts(["b", "types"], "", Settings())
    assert machine.ran == ["types", "pytest tests/unit"]


def test_an_unknown_part_is_refused(machine: Machine) -> None:
    with pytest.raises(UsageError, match="expected some of lint, types, a, b"):
        run.run_parts(["c"], "", Settings())
    with pytest.raises(UsageError, match="no such part"):
        run.run_parts([], "lint,c", Settings())
    with pytest.raises(UsageError, match=r"did you mean lint\?"):
        run.run_parts(["lnit"], "", Settings())
    assert machine.ran == []


def test_what_cannot_run_is_skipped_and_says_why(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.lacking = {"types", "a"}
    run.run_parts([], "lint, b", Settings())
    assert machine.ran == ["lint", "pytest tests/unit"]
    assert "- types skipped: no types here" in capsys.readouterr().err


@pytest.mark.parametrize("require", ["all", "types", "lint,types"])
def test_what_is_required_may_not_be_skipped(require: str, machine: Machine) -> None:
    machine.lacking = {"types"}
    with pytest.raises(MissingError, match="required, but not run: types"):
        run.run_parts([], require, Settings())
    assert "pytest tests tests/unit" in machine.ran


def test_what_is_required_counts_among_the_chosen_alone(machine: Machine) -> None:
    machine.lacking = {"types"}
    run.run_parts(["lint"], "all", Settings())
    assert machine.ran == ["lint"]


def test_a_failure_is_named_after_the_others_have_run(machine: Machine) -> None:
    machine.failing = {"lint", "pytest tests tests/unit"}
    with pytest.raises(CheckFailed, match="failed: lint, pytest") as failure:
        run.run_parts([], "", Settings())
    assert failure.value.exit_code == 1
    assert machine.ran == ["lint", "types", "pytest tests tests/unit"]


def test_a_folder_that_is_not_there_is_a_reason(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "PARTS", (machine.part("c", "tests/no-such"),))
    with pytest.raises(MissingError):
        run.run_parts([], "c", Settings())


def test_end_to_end_needs_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (e2e,) = (part for part in PARTS if part.name == "e2e")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(MissingError, match="needs root"):
        e2e.need(Settings())
    monkeypatch.setattr("os.geteuid", lambda: 0)
    e2e.need(Settings())
