from pathlib import Path

import pytest

from countersign.tools.recipes import OnPath, Tool
from countersign.tools.search_path import on_path, version_of

TOOL = Tool("thing", "sub/thing", OnPath(("--version",), (1, 2, 0), (2,)))


def program(folder: Path, body: str, name: str = "thing") -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("said", ["thing v1.2.0", "thing version 1.10.3+unknown", "go version go1.99 linux/amd64"])
def test_a_good_version_serves(said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    path = program(tmp_path, f"echo '{said}'")
    found = on_path(TOOL)
    assert found
    assert found[0] == path


@pytest.mark.parametrize(
    "body",
    ["echo 1.1.9", "echo 2.0.0", "echo no version", "echo 1.2.0; exit 1", "exec /no/such", "echo 1.2.0.rc >&2; exit 3"],
)
def test_any_other_answer_does_not(body: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    program(tmp_path, body)
    assert on_path(TOOL) is None


def test_nothing_on_path_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert on_path(TOOL) is None


def test_a_tool_that_is_not_looked_for_on_path_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    program(tmp_path, f"touch {tmp_path}/called; echo 1.2.0")
    assert on_path(Tool("thing", "thing", None)) is None
    assert not (tmp_path / "called").exists()


def test_a_program_that_hangs_has_no_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("countersign.tools.search_path._PATIENCE", 0.1)
    assert version_of(program(tmp_path, "exec sleep 5"), ()) == ""


def test_it_is_asked_with_its_own_arguments_and_away_from_here(tmp_path: Path) -> None:
    path = program(tmp_path, 'echo "$@ 1.2.3"; [ "$1" = -v ] && [ -z "$(ls)" ]')
    assert version_of(path, ("-v",)) == "1.2.3"
    assert version_of(path, ("version",)) == ""
