"""Set-up, undo, status and teardown are the family's: a third runtime has them by its adapter alone (`toy.py`)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from countersign.console.config import Settings, recorded_place
from countersign.console.errors import InfrastructureError, MissingError, UsageError
from countersign.enforcement import nri, record
from countersign.enforcement.additions import Lab
from countersign.enforcement.layout import SYSTEM
from countersign.enforcement.problem import NotEnforced
from countersign.runtimes import verbs
from countersign.runtimes.remote import RemotePlace
from rollout import places
from tests.unit.runtimes.memory import Memory, Unit
from tests.unit.runtimes.toy import CONFIG, PAUSE, Toy

RECEIPT: dict[str, Any] = {
    "version": "countersign.receipt/v1",
    "problems": [],
    "proven": {"refuse": True, "allow": False},
    "allowed": [],
    "notes": [],
}
UNPROVEN = {**RECEIPT, "problems": [{"where": "the canary", "found": "allowed", "expected": "refused"}]}
FINE = {"version": "countersign.doctor/v1", "ok": True, "checks": []}
PLACE = "ssh://box"
pytestmark = pytest.mark.usefixtures("echoing_gate")


@pytest.fixture
def box() -> Memory:
    """A machine with a toy that runs."""
    gate = SYSTEM.gate
    answers: dict[str, Any] = {
        "toyd --version": b"red",
        f"{gate} doctor": json.dumps(FINE).encode(),
        f"{gate} prove": json.dumps(RECEIPT).encode(),
    }
    return Memory(answers, units={"toy.service": Unit(active=True, enabled=True)})


@pytest.fixture
def place(box: Memory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], RemotePlace]:
    """Open the machine as a place, as each task does anew."""
    from countersign.keys import files as keyfiles
    from countersign.keys.pair import generate

    keyfiles.write(tmp_path / "k", generate(), b"x")
    policy, program = tmp_path / "policy.yaml", tmp_path / "program"
    roots = "roots: {k: {publicKey: {files: [k.pub]}}}"
    policy.write_text(
        f"apiVersion: countersign/v1\ndefault: reject\n{roots}\nscopes: {{r.example/app: {{anyOf: [k]}}}}\n"
    )
    program.write_bytes(b"a program")
    monkeypatch.setattr("countersign.tools.resolver.install", lambda tools, _: dict.fromkeys(tools, program))
    monkeypatch.setattr(nri, "request", lambda *_, **__: {"nri": nri.OFF})
    monkeypatch.setattr("countersign.enforcement.report.request", lambda *_, **__: {"policy": "sha256:1"})
    settings = Settings(node=PLACE, room="toy", state=tmp_path / "state", policy=policy)
    return lambda: RemotePlace(settings, cast("Any", box), Lab(), Toy)


def names(results: Any, *, changed: bool = True) -> list[str]:
    return [each.name for each in results if each.changed is changed]


def test_set_up_brings_gate_policy_and_the_runtimes_settings_and_a_second_one_changes_nothing(box, place) -> None:
    first = place().setup(keep=False, plan=False)
    assert names(first)[-2:] == ["unit countersign-gate.service", "Toy by our settings"]
    assert box.entries[CONFIG].content == f"hook = {SYSTEM.hook}\nshutter = red\n".encode()
    assert PAUSE in json.loads(box.get(SYSTEM.policy))["pinned"]
    assert box.units["countersign-gate.service"].active
    opened = place()
    assert recorded_place(opened.settings.state, "toy") == PLACE
    assert names(opened.setup(keep=False, plan=False)) == []
    laid = record.read(record.beside(opened.runtime().pins), "box") or {}
    assert {SYSTEM.gate, SYSTEM.policy, "/etc/systemd/system/countersign-gate.service"} <= set(laid)


def test_a_plan_is_the_same_steps_and_changes_nothing(box, place) -> None:
    planned = place().setup(keep=False, plan=True)
    assert (box.entries, [line for line in box.ran if line.startswith("systemctl")]) == ({}, [])
    assert recorded_place(place().settings.state, "toy") == ""
    assert names(planned) == names(place().setup(keep=False, plan=False))


@pytest.mark.parametrize(("keep", "existed", "left"), [(False, False, False), (True, False, True), (False, True, True)])
def test_what_is_not_proven_is_taken_away_again_unless_it_is_to_stay_or_was_there(box, place, keep, existed, left):
    if existed:
        place().setup(keep=False, plan=False)
    box.answers[f"{SYSTEM.gate} prove"] = json.dumps(UNPROVEN).encode()
    with pytest.raises(NotEnforced, match="the canary is allowed"):
        place().setup(keep=keep, plan=False)
    assert (CONFIG in box.entries, box.exists(SYSTEM.policy)) == (left, left)


def test_what_cannot_be_undone_is_named_with_the_command_that_does_it(box, place) -> None:
    box.answers[f"{SYSTEM.gate} prove"] = json.dumps(UNPROVEN).encode()
    box.answers["systemctl disable"] = 1
    with pytest.raises(InfrastructureError, match=r"could not be undone.*run \./inv toy\.clean --on ssh://box"):
        place().setup(keep=False, plan=False)


def test_what_is_not_there_is_refused_before_anything_changes(box, place) -> None:
    box.answers["toyd --version"] = b""
    with pytest.raises(MissingError, match="there is no toy"):
        place().setup(keep=False, plan=False)
    assert box.entries == {}


@pytest.mark.parametrize(("down", "ok"), [("", True), ("toy.service", False), ("countersign-gate.service", False)])
def test_status_says_whether_it_enforces_with_the_command_that_mends_it(box, place, down, ok, capsys) -> None:
    place().setup(keep=False, plan=False)
    if down:
        box.units[down].active = False
    found = place().report()
    assert (found["version"], found["ok"]) == ("countersign.toy-status/v1", ok)
    assert [each["name"] for each in found["services"]] == ["toy.service", "countersign-gate.service"]
    capsys.readouterr()
    places = verbs.open_places(place().settings, lambda _: place())
    if ok:
        verbs.status(places, json=False)
        assert "box: Toy 1" in capsys.readouterr().err
        return
    with pytest.raises(InfrastructureError, match=r"not enforcing; run \./inv toy\.setup"):
        verbs.status(places, json=False)


def test_logs_are_those_of_its_units_and_verdicts(box, place) -> None:
    box.answers["journalctl --unit=toy.service"] = b"toy says"
    assert place().log("toy") == b"toy says"
    with pytest.raises(UsageError, match="expected toy, gate, kubelet, verdicts"):
        place().log("crio")


def test_clean_takes_all_of_it_off_and_forgets_the_place(box, place) -> None:
    before = set(box.entries)
    place().setup(keep=False, plan=False)
    assert names(place().clean(plan=False)) == ["Toy is as it was", "the place is forgotten"]
    assert set(box.entries) - before == set()
    opened = place()
    assert recorded_place(opened.settings.state, "toy") == ""
    assert not (opened.settings.state / "ssh").exists() or not any((opened.settings.state / "ssh").iterdir())
    assert names(place().clean(plan=False)) == []


def test_a_row_in_the_table_lets_policies_go_to_it(place, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = place()
    opened.setup(keep=False, plan=False)
    monkeypatch.setitem(places.RUNTIMES, "toy", lambda _: place())
    [target] = places.targets(opened.settings, opened.settings.policy)
    assert (target.node.name, target.engine, target.policy.pins) == ("box", None, (PAUSE,))
    with pytest.raises(UsageError, match="got 'unknown'; expected containerd or crio or toy"):
        places.targets(replace(opened.settings, room="unknown"), opened.settings.policy)
