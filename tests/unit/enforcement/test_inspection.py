"""A policy that is not in force, a look that cannot be made: each is a finding, and hides no other."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from countersign.console.errors import InfrastructureError, UsageError
from countersign.enforcement import inspection, policy
from countersign.enforcement.ask import GateDown
from countersign.enforcement.layout import SYSTEM
from countersign.enforcement.problem import NotEnforced, Problem
from countersign.enforcement.report import VERSION, answered
from countersign.nodes.host import HostNode

POLICY = b'{"apiVersion": "countersign/v1"}'
IN_FORCE = f"sha256:{hashlib.sha256(POLICY).hexdigest()}"


def problems(folder: Path, monkeypatch: pytest.MonkeyPatch, on_disk: bytes | None, in_force: str) -> list[str]:
    if on_disk is not None:
        (folder / "policy.json").write_bytes(on_disk)
    monkeypatch.setattr(policy, "ask", lambda *_, **__: {"policy": in_force})
    return [problem.found for problem in policy.problems(HostNode(), replace(SYSTEM, etc=str(folder)))]


def test_the_policy_on_disk_that_is_in_force_is_no_finding(tmp_path, monkeypatch):
    assert problems(tmp_path, monkeypatch, POLICY, IN_FORCE) == []


def test_a_newer_policy_that_is_not_in_force_is_told(tmp_path, monkeypatch):
    assert problems(tmp_path, monkeypatch, POLICY + b" ", IN_FORCE) == [IN_FORCE]


@pytest.mark.parametrize("on_disk", [b"garbage", None])
def test_an_old_policy_that_stays_in_force_is_told(tmp_path, monkeypatch, on_disk):
    assert problems(tmp_path, monkeypatch, on_disk, IN_FORCE) == [IN_FORCE]


def test_no_policy_in_force_is_told(tmp_path, monkeypatch):
    assert problems(tmp_path, monkeypatch, POLICY, "") == ["none: everything is refused"]


def test_a_gate_that_does_not_answer_is_told(tmp_path, monkeypatch):
    def down(*_: object, **__: object) -> None:
        raise GateDown("connection refused")

    monkeypatch.setattr(policy, "ask", down)
    found = list(policy.problems(HostNode(), replace(SYSTEM, etc=str(tmp_path))))
    assert [(problem.where, problem.found) for problem in found] == [
        ("the gate", "without an answer (connection refused)")
    ]


def test_a_look_that_cannot_be_made_hides_no_other(tmp_path, monkeypatch):
    monkeypatch.setattr(policy, "ask", lambda *_, **__: {"policy": ""})

    def broken() -> list[Problem]:
        raise InfrastructureError("exited with 1: not TOML", where="containerd config dump")

    layout = replace(SYSTEM, etc=str(tmp_path))
    found = inspection.findings(HostNode(), layout, tmp_path / "pins.json", 0, broken)
    assert [problem.where for problem in found] == [
        "containerd config dump",
        "what set-up put there",
        "the policy in force",
    ]


def test_what_doctor_raises_is_told_one_by_one():
    def look() -> list[Problem]:
        raise NotEnforced([Problem("a", "1", "2"), Problem("b", "3", "4")], "doctor")

    assert [problem.where for problem in inspection.tried(look)] == ["a", "b"]


@pytest.mark.parametrize(
    ("problem", "room", "do"),
    [
        (Problem("a", "1", "2"), "containerd", "run ./inv containerd.setup --on kind"),
        (Problem("a", "1", "2"), "crio", "run ./inv crio.configure --on kind"),
        (Problem("a", "1", "2", "rm a"), "crio", "rm a"),
    ],
)
def test_each_finding_names_what_mends_it(problem, room, do):
    assert inspection.document("kind", "worker", problem, room) == {
        "node": "worker",
        "problem": "a is 1, expected 2",
        "where": "a",
        "found": "1",
        "expected": "2",
        "do": do,
    }


def test_a_place_that_cannot_be_asked_is_answered_for_and_a_mistake_is_none():
    def unreachable() -> dict[str, object]:
        raise InfrastructureError("cannot be reached", where="ssh://a", do="start it")

    def mistaken() -> dict[str, object]:
        raise UsageError("got 'x'")

    found = answered(unreachable, "ssh://a", VERSION)
    assert (found["version"], found["ok"], found["problems"][0]["do"]) == (VERSION, False, "start it")
    with pytest.raises(UsageError):
        answered(mistaken, "ssh://a", VERSION)
