from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from countersign.cri.errors import CriError
from countersign.enforcement import canary
from countersign.enforcement.problem import NotEnforced

REFUSED = (
    "image verifier bindir blocked pull: countersign: refused canary.countersign.test/canary:unsigned@sha256:0: "
    "NO_SCOPE: no scope matches"
)


class Runtime:
    """A runtime that refuses, or not, as a test says."""

    def __init__(self, pull: str = REFUSED, start: str = REFUSED, create: str = "") -> None:
        self.answers = {"pull": pull, "create": create, "start": start}
        self.handlers: list[str] = []
        self.forgotten = 0

    def pull(self, reference: str, timeout: float) -> str:
        return self._answer("pull")

    def start(self, container: str) -> None:
        self._answer("start")

    def _answer(self, call: str) -> str:
        if self.answers[call]:
            raise CriError(call, "UNKNOWN", self.answers[call])
        return "sha256:0"

    @contextmanager
    def pod(self, handler: str):
        self.handlers.append(handler)
        yield "pod"

    def create(self, pod: str, container) -> str:
        self._answer("create")
        return "container"

    def image_status(self, reference: str):
        return SimpleNamespace(id="sha256:0")

    def forget(self, reference: str) -> None:
        self.forgotten += 1


def prove(runtime: Any) -> None:
    canary.prove(runtime, lambda reference: None, runtime.forget, ["runc", "other"])


def test_refused_at_pull_and_under_every_handler_is_the_proof():
    runtime = Runtime()
    prove(runtime)
    assert runtime.handlers == ["runc", "other"]
    assert runtime.forgotten == 2, "nothing is left of it"


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ({"pull": ""}, "pull of canary.countersign.test/canary:unsigned is allowed"),
        ({"start": ""}, "under the handler other is allowed"),
        ({"pull": "connection refused"}, "is refused with: connection refused, expected a refusal by the gate"),
        ({"start": "countersign: refused a: GATE_DOWN: x"}, "is refused with: countersign: refused a: GATE_DOWN"),
        (
            {"create": "countersign: refused container a: GATE_DOWN: x"},
            "is refused with: countersign: refused container a",
        ),
        ({"start": "countersign: refused a: POLICY_INVALID: x"}, "POLICY_INVALID"),
    ],
)
def test_anything_else_is_no_proof(answers, told):
    runtime = Runtime(**answers)
    with pytest.raises(NotEnforced) as caught:
        prove(runtime)
    assert told in str(caught.value)
    assert runtime.forgotten == 2


def test_an_image_that_does_not_become_known_is_no_refusal(monkeypatch):
    monkeypatch.setattr(canary, "KNOWN_WITHIN", 0.05)
    runtime: Any = Runtime()
    runtime.image_status = lambda reference: None
    with pytest.raises(CriError, match="did not become known"):
        prove(runtime)
