"""What set-up put on a node is compared with what lies there: every kind of change is one finding."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from countersign.enforcement import record
from countersign.nodes.files import sha256
from countersign.nodes.host import HostNode
from countersign.nodes.steps import File, Group, Link

if TYPE_CHECKING:
    from countersign.console.steps import Step
    from countersign.nodes.node import Node

TRUE = Path(shutil.which("true") or "/bin/true")
NODE = HostNode()


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Put a program, a policy, a link and a secret there, and remember them."""
    there = tmp_path / "there"
    there.mkdir()
    steps: list[Step[Node]] = [
        Group(
            "programs", [File(f"{there}/hook", b"#!/bin/false\n", 0o755), Link(f"{there}/verifier", f"{there}/hook")]
        ),
        File(f"{there}/policy.json", b"{}"),
        File(f"{there}/docker.json", b"secret", 0o600),
    ]
    for step in steps:
        step.apply(NODE)
    record.keep(record.beside(tmp_path / "pins.json"), {NODE.name: steps})
    return there


def linked(path: Path) -> None:
    path.unlink()
    path.symlink_to(TRUE)


def problems(there: Path, node: str = NODE.name) -> list[str]:
    laid = record.read(record.beside(there.parent / "pins.json"), node)
    return [f"{problem.where}: {problem.found}" for problem in record.problems(NODE, laid)]


def test_what_lies_as_it_was_put_is_no_finding_and_secrets_are_not_looked_at(kept):
    (kept / "docker.json").write_text("another")
    assert problems(kept) == []


def test_a_program_of_the_same_mode_is_told_by_its_content(kept):
    shutil.copyfile(TRUE, kept / "hook")
    assert problems(kept) == [f"{kept}/hook: sha256:{sha256(TRUE)} with mode 755"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda there: (there / "hook").chmod(0o777), "with mode 777"),
        (lambda there: (there / "hook").unlink(), "hook: missing"),
        (lambda there: (there / "policy.json").write_text('{"default": []}'), "policy.json: sha256:"),
        (lambda there: (there / "policy.json").write_text("garbage"), "policy.json: sha256:"),
        (lambda there: (there / "policy.json").unlink(), "policy.json: missing"),
        (lambda there: linked(there / "verifier"), f"verifier: a link to {TRUE}"),
        (lambda there: linked(there / "policy.json"), f"policy.json: a link to {TRUE}"),
        (lambda there: ((there / "hook").unlink(), (there / "hook").mkdir()), "hook: no file"),
    ],
)
def test_each_change_is_one_finding(kept, change: Callable[[Path], object], told: str):
    change(kept)
    found = problems(kept)
    assert len(found) == 1, found
    assert told in found[0]


@pytest.mark.parametrize(
    "text", [None, "", "garbage", "[]", '{"version": "countersign.laid/v0", "nodes": {"host": {}}}']
)
def test_without_a_record_that_can_be_read_nothing_is_taken_for_good(kept, text):
    path = record.beside(kept.parent / "pins.json")
    path.unlink() if text is None else path.write_text(text)
    assert problems(kept) == ["what set-up put there: not known on this machine"]


def test_of_another_node_nothing_is_known(kept):
    assert problems(kept, "worker") == ["what set-up put there: not known on this machine"]


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as running:
        yield running
        running.kill()


@pytest.mark.parametrize(("program", "count"), [("sleep", 0), ("true", 1)])
def test_the_program_that_runs_is_told_by_its_content_and_not_by_its_file(process, program, count):
    laid = {"/gate": record.Laid("f", 0o755, sha256=sha256(Path(shutil.which(program) or "")))}
    found = list(record.running_problems(NODE, process.pid, laid, "/gate"))
    assert len(found) == count
