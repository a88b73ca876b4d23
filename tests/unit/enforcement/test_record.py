"""What set-up put on a node is remembered, and the program that compares it with what lies there is ours."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from countersign.enforcement import record
from countersign.nodes.files import sha256
from countersign.nodes.host import HOST, HostNode
from countersign.nodes.steps import File, Group, Link

if TYPE_CHECKING:
    from countersign.console.steps import Step

TRUE = Path(shutil.which("true") or "/bin/true")
NODE = HostNode()


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Put a program, a policy, a link and a secret there, and remember them."""
    there = tmp_path / "there"
    there.mkdir()
    steps: list[Step] = [
        Group(
            HOST,
            "programs",
            [File(HOST, f"{there}/hook", b"#!/bin/false\n", 0o755), Link(HOST, f"{there}/verifier", f"{there}/hook")],
        ),
        File(HOST, f"{there}/policy.json", b"{}"),
        File(HOST, f"{there}/docker.json", b"secret", 0o600),
    ]
    for step in steps:
        step.apply()
    record.keep(record.beside(tmp_path / "pins.json"), {NODE.name: steps})
    return there


def linked(path: Path) -> None:
    path.unlink()
    path.symlink_to(TRUE)


def problems(there: Path, node: str = NODE.name, program: str = "hook") -> list[str]:
    laid = record.read(record.beside(there.parent / "pins.json"), node)
    return [f"{problem.where}: {problem.found}" for problem in record.problems(NODE, laid, f"{there}/{program}")]


def test_a_program_that_lies_as_it_was_put_is_no_finding_and_secrets_are_not_kept(kept):
    assert problems(kept) == []
    laid = record.read(record.beside(kept.parent / "pins.json"), NODE.name)
    assert laid is not None
    assert sorted(laid) == [f"{kept}/hook", f"{kept}/policy.json", f"{kept}/verifier"]


def test_what_set_up_did_not_put_there_is_no_finding(kept):
    assert problems(kept, program="another") == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda there: shutil.copyfile(TRUE, there / "hook"), f"hook: sha256:{sha256(TRUE)} with mode 755"),
        (lambda there: (there / "hook").chmod(0o777), "with mode 777"),
        (lambda there: (there / "hook").unlink(), "hook: missing"),
        (lambda there: linked(there / "hook"), f"hook: a link to {TRUE}"),
        (lambda there: ((there / "hook").unlink(), (there / "hook").mkdir()), "hook: no file"),
    ],
)
def test_each_change_is_one_finding(kept, change: Callable[[Path], object], told: str):
    change(kept)
    found = problems(kept)
    assert len(found) == 1, found
    assert told in found[0]


def test_a_program_of_the_same_mode_is_told_by_its_content(kept):
    shutil.copyfile(TRUE, kept / "hook")
    assert problems(kept) == [f"{kept}/hook: sha256:{sha256(TRUE)} with mode 755"]


@pytest.mark.parametrize(
    "text", [None, "", "garbage", "[]", '{"version": "countersign.laid/v0", "nodes": {"host": {}}}']
)
def test_without_a_record_that_can_be_read_nothing_is_taken_for_good(kept, text):
    path = record.beside(kept.parent / "pins.json")
    path.unlink() if text is None else path.write_text(text)
    assert problems(kept) == ["what set-up put there: not known on this machine"]


def test_of_another_node_nothing_is_known(kept):
    assert problems(kept, "worker") == ["what set-up put there: not known on this machine"]
