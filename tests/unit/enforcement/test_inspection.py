"""A policy that is not in force, a look that cannot be made: each is a finding, and hides no other."""

from __future__ import annotations

import pytest

from countersign.console.errors import InfrastructureError, UsageError
from countersign.enforcement import doctor
from countersign.enforcement.layout import SYSTEM
from countersign.enforcement.problem import Problem
from countersign.enforcement.report import VERSION, answered
from countersign.nodes.host import HostNode


def test_a_look_that_cannot_be_made_hides_no_other(tmp_path, monkeypatch):
    def broken(*_: object, **__: object) -> list[Problem]:
        raise InfrastructureError("gives no answer", where="doctor")

    monkeypatch.setattr(doctor, "look", broken)
    found = doctor.findings(HostNode(), SYSTEM, tmp_path / "pins.json")
    assert [problem.where for problem in found] == ["what set-up put there", "doctor"]


def test_what_two_looks_find_is_told_once(monkeypatch, tmp_path):
    same = Problem("what set-up put there", "not known on this machine", "a record of it, which set-up keeps")
    monkeypatch.setattr(doctor, "look", lambda *_, **__: [same])
    assert doctor.findings(HostNode(), SYSTEM, tmp_path / "pins.json") == [same]


@pytest.mark.parametrize(
    ("problem", "setup", "do"),
    [
        (Problem("a", "1", "2"), "./inv containerd.setup", "run ./inv containerd.setup --on kind"),
        (Problem("a", "1", "2"), "./inv crio.configure", "run ./inv crio.configure --on kind"),
        (Problem("a", "1", "2", "rm a"), "./inv crio.configure", "rm a"),
    ],
)
def test_each_finding_names_what_mends_it(problem, setup, do):
    assert doctor.document("kind", "worker", problem, setup) == {
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
