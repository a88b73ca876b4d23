"""What the gate's receipt says becomes findings, and nothing that cannot be read is taken for a proof."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from countersign.console.errors import InfrastructureError
from countersign.enforcement.layout import SYSTEM
from countersign.enforcement.problem import NotEnforced
from countersign.enforcement.proof import Proof, prove

GOOD: dict[str, Any] = {
    "version": "countersign.receipt/v1",
    "problems": [],
    "proven": {"refuse": True, "allow": True},
    "allowed": [
        {"layer": "create", "handler": "runc", "image": "registry.example/app@sha256:0", "rule": "anyOf(team)"}
    ],
    "notes": [],
}


class Runtime:
    """A runtime whose gate answers as a test says."""

    layout = SYSTEM

    def __init__(self, answer: object, code: int = 0, stderr: bytes = b"") -> None:
        self.said = SimpleNamespace(stdout=json.dumps(answer).encode(), code=code, stderr=stderr)
        self.node = SimpleNamespace(name="node", run=self.run)
        self.undisturbed = nullcontext

    def run(self, argv: Sequence[str], **_: object) -> object:
        self.argv = argv
        return self.said


def proven(answer: object, code: int = 0, stderr: bytes = b"", image: str = "") -> Proof:
    runtime: Any = Runtime(answer, code, stderr)
    found = prove(runtime, "--cgroup-parent", "/x", image=image)
    assert runtime.argv[:2] == [SYSTEM.gate, "prove"]
    assert runtime.argv[-2:] == (["--image", image] if image else ["--cgroup-parent", "/x"])
    return found


def test_a_proof_that_holds_says_what_got_through() -> None:
    assert proven(GOOD) == Proof("registry.example/app@sha256:0", "anyOf(team)", ())
    assert proven(GOOD, image="registry.example/app:1").allowed


def test_without_an_image_to_allow_it_says_so() -> None:
    less = {**GOOD, "proven": {"refuse": True, "allow": False}, "allowed": [], "notes": ["allow not proven: why"]}
    assert proven(less) == Proof("", "", ("allow not proven: why",))


def test_what_was_not_refused_is_a_problem() -> None:
    problem = {"where": "start of it under the handler runc", "found": "allowed", "expected": "a refusal"}
    with pytest.raises(NotEnforced, match="under the handler runc is allowed, expected a refusal"):
        proven({**GOOD, "problems": [problem], "proven": {"refuse": False, "allow": True}}, code=1)


def test_a_receipt_that_does_not_hold_is_no_proof_even_without_a_reason() -> None:
    with pytest.raises(NotEnforced, match="does not say where"):
        proven({**GOOD, "proven": {"refuse": False, "allow": True}}, code=1)


@pytest.mark.parametrize("answer", [{}, [], None, {**GOOD, "version": "countersign.receipt/v2"}, {**GOOD, "proven": 1}])
def test_what_cannot_be_read_is_no_proof(answer: object) -> None:
    with pytest.raises(InfrastructureError, match="no receipt that can be read"):
        proven(answer)


def test_what_could_not_be_tried_is_told() -> None:
    with pytest.raises(InfrastructureError, match="nothing could be proven: error: prove: the gate does not answer"):
        proven(GOOD, code=4, stderr=b"error: prove: the gate does not answer")
