"""What a plan shows of files that would change."""

from __future__ import annotations

from pathlib import Path

import pytest

from countersign.console.steps import ShowsDiff, Step, run_steps
from countersign.nodes.each import OnEach
from countersign.nodes.host import HOST
from countersign.nodes.steps import File, Folder, Group, Link

SECRET = b"hunter2\n"


def test_a_changed_text_is_shown_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text("one\ntwo\nthree\n")
    shown = File(HOST, str(path), b"one\n2\nthree\n").diff()
    where = f"host:{path}"
    assert shown.splitlines() == [f"--- {where}", f"+++ {where}", "@@ -1,3 +1,3 @@", " one", "-two", "+2", " three"]


def test_a_file_to_come_is_shown_as_new(tmp_path: Path) -> None:
    shown = File(HOST, str(tmp_path / "config"), b"one\n").diff().splitlines()
    assert (shown[0], shown[-1]) == ("--- /dev/null", "+one")


def test_a_mode_that_changes_is_told(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_bytes(b"one\n")
    path.chmod(0o640)
    assert File(HOST, str(path), b"one\n").diff() == f"host:{path} has the mode 0640, expected 0644"


@pytest.mark.parametrize(("there", "wanted"), [(0o600, 0o600), (0o600, 0o644), (0o644, 0o600)])
def test_a_secret_is_never_shown_whether_it_is_one_there_or_becomes_one(
    tmp_path: Path, there: int, wanted: int
) -> None:
    path = tmp_path / "docker.json"
    path.write_bytes(b"old " + SECRET)
    path.chmod(there)
    shown = File(HOST, str(path), SECRET, wanted).diff()
    assert shown == f"host:{path} differs (its content is not shown)"


def test_a_secret_to_come_is_said_to_be_missing(tmp_path: Path) -> None:
    path = tmp_path / "docker.json"
    assert File(HOST, str(path), SECRET, 0o600).diff() == f"host:{path} is missing (its content is not shown)"


@pytest.mark.parametrize(("content", "mode"), [(b"#!/bin/sh\n", 0o755), (b"\x7fELF\0", 0o644), (b"\xff\xfe", 0o644)])
def test_a_program_and_what_is_no_text_are_never_shown(tmp_path: Path, content: bytes, mode: int) -> None:
    path = tmp_path / "program"
    path.write_bytes(b"old\n")
    [line] = File(HOST, str(path), content, mode).diff().splitlines()
    assert line.startswith(f"host:{path} differs (")


def test_a_plan_shows_the_parts_that_would_change_below_their_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "same").write_bytes(b"same\n")
    parts: list[Step] = [
        Folder(HOST, str(tmp_path / "folder")),
        File(HOST, str(tmp_path / "same"), b"same\n"),
        File(HOST, str(tmp_path / "new"), b"new\n"),
        File(HOST, str(tmp_path / "secret"), SECRET, 0o600),
        Link(HOST, str(tmp_path / "link"), "/nowhere"),
    ]
    run_steps([OnEach("both", [Group(HOST, "group", parts)])], plan=True)
    shown = capsys.readouterr().err
    assert shown.splitlines() == [
        "would: both",
        f"    folder {tmp_path}/folder",
        "    --- /dev/null",
        f"    +++ host:{tmp_path}/new",
        "    @@ -0,0 +1 @@",
        "    +new",
        f"    host:{tmp_path}/secret is missing (its content is not shown)",
        f"    {tmp_path}/link → /nowhere",
        "plan: 1 to change, nothing was",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["same"], "a plan changes nothing"


def test_what_holds_shows_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    step = File(HOST, str(tmp_path / "same"), b"same\n")
    step.apply()
    run_steps([OnEach("same", [step])], plan=True)
    assert capsys.readouterr().err.splitlines() == ["holds: same", "plan: 0 to change, nothing was"]
    assert isinstance(step, ShowsDiff)
