"""The gate's doctor on a node is asked, and its answer is read or told of; no answer is never a good one."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from countersign.console.errors import InfrastructureError
from countersign.enforcement import doctor
from countersign.enforcement.layout import SYSTEM, Layout
from countersign.enforcement.problem import NotEnforced, Problem
from countersign.enforcement.record import Laid
from countersign.nodes.host import HostNode


def check(state: str, *findings: dict[str, str]) -> dict[str, Any]:
    return {"check": "a", "looksAt": "b", "wanted": "c", "state": state, "findings": list(findings)}


def finding(where: str, mend: str = "rm a") -> dict[str, str]:
    return {"where": where, "found": "1", "wanted": "2", "mend": mend}


def document(*checks: dict[str, Any], ok: bool = False, version: str = doctor.VERSION) -> str:
    return json.dumps({"version": version, "ok": ok, "node": "n", "checks": checks})


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return replace(SYSTEM, bin=str(tmp_path))


def answers(layout: Layout, text: str, code: int) -> None:
    """Have the gate's program note its arguments and stdin, and answer."""
    here = Path(layout.gate).parent
    (here / "answer").write_text(text, encoding="utf-8")
    script = f'#!/bin/sh\necho "$@" >{here}/argv\ncat >{here}/stdin\ncat {here}/answer\necho said >&2\nexit {code}\n'
    Path(layout.gate).write_text(script, encoding="utf-8")
    Path(layout.gate).chmod(stat.S_IRWXU)


def test_a_node_that_enforces_leaves_nothing_to_say(layout):
    answers(layout, document(check("ok"), check("skipped"), ok=True), 0)
    assert doctor.look(HostNode(), layout) == []
    doctor.examine(HostNode(), layout)


def test_each_finding_is_a_problem_with_what_mends_it(layout):
    told = document(
        check("open", finding("a"), finding("b", f"run {doctor.SETUP}")), check("unknown", finding("c")), check("ok")
    )
    answers(layout, told, 1)
    assert doctor.look(HostNode(), layout) == [
        Problem("a", "1", "2", "rm a"),
        Problem("b", "1", "2"),  # set-up mends it
        Problem("c", "1", "2", "rm a"),
    ]
    with pytest.raises(NotEnforced, match="a is 1, expected 2; b is 1, expected 2; c is 1"):
        doctor.examine(HostNode(), layout)


def test_a_warning_is_told_and_is_no_reason_to_say_no(layout):
    answers(layout, document(check("warning", finding("a")), ok=True), 0)
    assert [problem.warning for problem in doctor.look(HostNode(), layout)] == [True]
    doctor.examine(HostNode(), layout)


@pytest.mark.parametrize("checks", [(), (check("unknown"),), (check("warning", finding("a")),)])
def test_a_node_that_is_not_fine_has_a_problem(layout, checks):
    answers(layout, document(*checks), 4)
    assert [problem.where for problem in doctor.look(HostNode(), layout) if not problem.warning] == ["the node"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", 0),
        ("no JSON", 0),
        ("[]", 0),
        ("{}", 0),
        (document(ok=True, version="countersign.doctor/v0"), 0),
        (document(ok=True), 2),
        (document(ok=True), 127),
        (document({"check": "a", "state": "open", "findings": [{}]}), 1),
        (document({"findings": [finding("a")]}), 1),
    ],
)
def test_an_answer_that_cannot_be_read_is_told(layout, text, code):
    answers(layout, text, code)
    with pytest.raises(InfrastructureError, match="no answer that can be read: said"):
        doctor.look(HostNode(), layout)


def test_a_node_without_the_program_is_told(layout):
    assert doctor.look(HostNode(), layout) == [Problem(layout.gate, "missing", "the gate's program")]


def test_it_is_told_where_things_are_and_what_set_up_put_there(layout, tmp_path):
    answers(layout, document(ok=True), 0)
    laid = {"/a": Laid("f", 0o644, sha256="00"), "/b": Laid("l", 0, target="/a")}
    doctor.look(HostNode(), layout, laid, crio_socket="/run/crio.sock")
    assert (tmp_path / "argv").read_text() == (
        "doctor --json --config /etc/countersign/gate.json --setup set-up --crio-socket /run/crio.sock --record -\n"
    )
    assert json.loads((tmp_path / "stdin").read_text()) == {
        "version": "countersign.record/v1",
        "files": {
            "/a": {"kind": "f", "mode": 420, "target": "", "sha256": "00"},
            "/b": {"kind": "l", "mode": 0, "target": "/a", "sha256": ""},
        },
    }
