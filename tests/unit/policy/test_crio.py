"""CRI-O's own policy is the gate's to render: what it is asked, and what is taken for an answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from countersign.console.config import Settings
from countersign.console.errors import InfrastructureError
from countersign.policy import crio
from countersign.policy.model import Policy
from countersign.policy.problems import PolicyInvalid

Load = Callable[[str], Policy]

PIN = "r.example/pause@sha256:" + "a" * 64
GOOD = {"version": crio.VERSION, "policy": "P", "registriesD": "R"}


@pytest.fixture
def answering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Have the gate answer; it writes down beside itself what it is asked, and the policy."""
    program = tmp_path / "countersign-gate"
    monkeypatch.setattr("countersign.tools.resolver.tool", lambda _name, _settings: program)

    def answer(script: str) -> Path:
        program.write_text(f'#!/bin/sh\necho "$@" >$0.asked\ncat >$0.policy\n{script}\n')
        program.chmod(0o755)
        return program

    return answer


def test_it_is_asked_by_the_gates_own_document(loaded: Load, answering: Callable[[str], Path]) -> None:
    program = answering(f"echo '{json.dumps(GOOD)}'")
    found = crio.render(loaded(""), Settings(), pins=[PIN], tags=["r.example/pause:3.10"], lenient=True)
    assert (found.policy, found.registries_d) == (b"P", b"R")
    asked = Path(f"{program}.asked").read_text()
    assert asked == "crio-policy --crio-engine lenient --tag=r.example/pause:3.10 -\n"
    assert json.loads(Path(f"{program}.policy").read_text())["pinned"] == [PIN]
    crio.render(loaded(""), Settings())
    assert Path(f"{program}.asked").read_text() == "crio-policy --crio-engine strict -\n"


@pytest.mark.parametrize(
    ("script", "error", "message"),
    [
        ('echo "error: POLICY_INVALID: x: oops" >&2; exit 1', PolicyInvalid, "x: oops"),
        ('echo "error: no space" >&2; exit 4', InfrastructureError, "error: no space"),
        ("exit 4", InfrastructureError, "countersign-gate ended with 4"),
        ("echo no", InfrastructureError, "gave no answer that can be read"),
        (f"echo '{json.dumps(GOOD | {'version': 'x/v9'})}'", InfrastructureError, f"x/v9.*{crio.VERSION}"),
        (f"echo '{json.dumps(GOOD | {'policy': 1})}'", InfrastructureError, "gave no answer that can be read"),
    ],
)
def test_what_is_not_its_answer_is_not_taken_for_one(
    loaded: Load, answering: Callable[[str], Path], script: str, error: type[Exception], message: str
) -> None:
    answering(script)
    with pytest.raises(error, match=message):
        crio.render(loaded(""), Settings())
