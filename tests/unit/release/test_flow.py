"""Stages that were cut off, as if the machine had lost its power, go on where they were; nothing done is done again."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from invoke.config import Config
from invoke.context import Context

from countersign.console.config import ROOT, settings_from
from countersign.console.errors import UsageError
from release import flow
from release.load import load
from release.made import File, Release, sha256, write
from release.signer import Signer

STAGES = tuple(flow.STAGES)


@pytest.fixture
def work(project: Path, tmp_path: Path) -> flow.Work:
    settings = replace(settings_from(Context(Config(project_location=ROOT))), state=tmp_path / "state")

    def nobody() -> Signer:
        raise AssertionError

    return flow.Work(settings, load(project / "release.yaml"), "1.2.3", "registry.example/acme", "by hand", nobody)


def stage(name: str, log: Path, killed: str) -> flow.Stage:
    """Return a stage that writes one file and adds it to the release; killed, it dies with half of it written."""

    def run(work: flow.Work, release: Release) -> tuple[Release, list[str]]:
        with log.open("a") as lines:
            lines.write(f"{name}\n")
        work.folder.files.mkdir(parents=True, exist_ok=True)
        if name == killed:
            work.folder.file(name).write_bytes(b"ha")
            os.kill(os.getpid(), signal.SIGKILL)
        write(work.folder.file(name), b"half")
        kept = [each for each in release.files if each.name != name]
        return replace(release, files=(*kept, File(name, "source", sha256(work.folder.file(name))))), [name]

    return run


@pytest.fixture
def made(work: flow.Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """Return what does all that is due in a process of its own, killed in one stage, and says which stages began."""

    def make(killed: str = "") -> list[str]:
        log = tmp_path / "log"
        log.write_text("")
        fakes: Mapping[str, flow.Stage] = {name: stage(name, log, killed) for name in STAGES}
        monkeypatch.setattr(flow, "STAGES", fakes)
        child = os.fork()
        if not child:
            code = 1
            try:
                state = flow.start(work)
                for name in flow.due(work, state):
                    state = flow.run(work, name, state)
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == (-signal.SIGKILL if killed else 0)
        return log.read_text().split()

    return make


@pytest.mark.parametrize("killed", STAGES)
def test_after_a_kill_it_goes_on_with_that_stage(
    work: flow.Work, made: Callable[[str], list[str]], killed: str
) -> None:
    at = STAGES.index(killed)
    assert made(killed) == list(STAGES[: at + 1])
    assert made("") == list(STAGES[at:])
    state = flow.start(work)
    assert flow.due(work, state) == []
    assert [each.name for each in state.release.files] == list(STAGES)
    assert {work.folder.file(each.name).read_bytes() for each in state.release.files} == {b"half"}


@pytest.mark.parametrize("changed", STAGES)
def test_what_was_changed_since_is_done_again_with_all_after_it(
    work: flow.Work, made: Callable[[str], list[str]], changed: str
) -> None:
    made("")
    assert made("") == []
    work.folder.file(changed).write_bytes(b"other")
    assert made("") == list(STAGES[STAGES.index(changed) :])


def test_a_stage_alone_asks_for_those_before_it(work: flow.Work, made: Callable[[str], list[str]]) -> None:
    made("push")
    with pytest.raises(UsageError, match=r"release\.push is not done; run release\.push"):
        flow.run(work, "chart", flow.start(work))


def test_two_runs_do_not_make_the_same_release(
    work: flow.Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow, "STAGES", {"build": stage("build", tmp_path / "log", "")})
    state = flow.start(work)
    work.folder.path.parent.mkdir(parents=True)
    with work.folder.path.with_name(".app-1.2.3.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match=r"app-1\.2\.3: is being made by another run; wait for it, or stop it"):
            flow.run(work, "build", state)
        assert not work.folder.path.exists()
    assert flow.run(work, "build", state).stages
