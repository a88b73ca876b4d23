"""Several machines at once: one that fails stops no other, and the end names it."""

from __future__ import annotations

import signal
import threading
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from countersign.console.config import Settings, record_place, recorded_place
from countersign.console.errors import InfrastructureError, UsageError
from countersign.enforcement.several import Places, opened


def place(name: str, failure: Exception | None = None, state: Path = Path("/nowhere")) -> Any:
    def configure() -> list[str]:
        if failure:
            raise failure
        return [name]

    return SimpleNamespace(settings=SimpleNamespace(node=name, state=state), configure=configure)


def configured(*each: Any, plan: bool = True) -> dict[str, Any]:
    return Places(each, "crio").set_up("configured", lambda one: one.configure(), plan=plan)


def test_one_that_fails_stops_no_other_and_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InfrastructureError, match=r"ssh://b: 1 of 3 machines were not configured"):
        configured(place("ssh://a"), place("ssh://b", InfrastructureError("cannot be reached")), place("ssh://c"))
    shown = capsys.readouterr().err
    assert "✓ configured" in shown
    assert "cannot be reached" in shown


def test_a_wave_with_a_failure_is_the_last_and_the_same_command_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun: list[str] = []
    names = [f"ssh://m{number}" for number in range(7)]

    def one(each: Any) -> str:
        begun.append(each.settings.node)
        return str(each.configure())

    broken = [place(n, InfrastructureError("full disk") if n == names[3] else None, tmp_path) for n in names]
    with pytest.raises(InfrastructureError, match=r"m3: 1 of 7 machines were not set up, 3 not begun") as raised:
        Places(broken, "crio").set_up("set up", one, plan=False, wave=2)
    assert "goes on with the rest" in str(raised.value)
    shown = capsys.readouterr().err
    assert [shown.count(word) for word in ("✓ set up", "✗", "- not begun")] == [3, 1, 3]
    assert sorted(begun) == names[:4]
    assert recorded_place(tmp_path, "crio") == ",".join(names[:3])
    Places([place(n, state=tmp_path) for n in names], "crio").set_up("set up", one, plan=False, wave=2)
    assert recorded_place(tmp_path, "crio") == ",".join(names)


def test_a_document_says_what_came_of_each_also_where_one_failed(tmp_path: Path) -> None:
    names = [f"ssh://m{number}" for number in range(4)]
    told: list[Any] = []
    each = [place(n, InfrastructureError("full disk") if n == names[1] else None, tmp_path) for n in names]
    with pytest.raises(InfrastructureError):
        Places(each, "crio").set_up("set up", lambda one: one.configure(), plan=False, wave=2, tell=told.append)
    machines = told[0].machines()
    assert [(one["place"], one["state"]) for one in machines] == [
        *zip(names, ["done", "failed", "not begun", "not begun"], strict=True)
    ]
    assert "full disk" in machines[1]["error"]
    assert ["seconds" in one for one in machines] == [True, True, False, False]
    fine = [place(n, state=tmp_path) for n in names]
    Places(fine, "crio").set_up("set up", lambda one: one.configure(), plan=False, tell=told.append)
    assert {one["state"] for one in told[1].machines()} == {"done"}


def test_who_stops_it_leaves_nothing_half_done_and_is_told_what_was_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"ssh://m{number:02}" for number in range(24)]
    told, begun, go = list[Any](), list[str](), threading.Event()

    def one(each: Any) -> str:
        begun.append(each.settings.node)
        if each.settings.node == names[12]:  # the first of the second wave
            main = threading.main_thread().ident or 0
            threading.Timer(0.3, signal.pthread_kill, (main, signal.SIGINT)).start()  # once all are begun
            go.wait(10)
        elif names.index(each.settings.node) > 12:
            go.wait(10)
        return str(each.configure())

    def released(text: str) -> None:
        assert "stopping" in text
        go.set()

    each = [place(n, state=tmp_path) for n in names]
    monkeypatch.setattr("countersign.console.output.warn", released)
    with pytest.raises(KeyboardInterrupt):
        Places(each, "crio").set_up("set up", one, plan=False, wave=12, tell=told.append)
    states = [one["state"] for one in told[0].machines()]
    assert sorted(begun) == sorted(n for n, state in zip(names, states, strict=True) if state == "done")
    assert states == ["done"] * len(begun) + ["not begun"] * (24 - len(begun))
    assert 12 < len(begun) <= 20, "of the second wave, those at work when it was stopped"
    assert recorded_place(tmp_path, "crio") == ",".join(names[: len(begun)])
    assert capsys.readouterr().err.count("- not begun") == 24 - len(begun)
    assert "not begun" not in [one["state"] for one in _again(names, tmp_path)]


def _again(names: list[str], state: Path) -> list[dict[str, object]]:
    told: list[Any] = []
    each = [place(n, state=state) for n in names]
    Places(each, "crio").set_up("set up", lambda one: one.configure(), plan=False, wave=12, tell=told.append)
    found: list[dict[str, object]] = told[0].machines()
    return found


def test_without_waves_all_are_begun() -> None:
    begun: list[str] = []

    def one(each: Any) -> str:
        begun.append(each.settings.node)
        return str(each.configure())

    failing = [place("ssh://a", InfrastructureError("cannot be reached")), place("ssh://b"), place("ssh://c")]
    with pytest.raises(InfrastructureError, match="1 of 3 machines were not configured"):
        Places(failing, "crio").set_up("configured", one, plan=True)
    assert sorted(begun) == ["ssh://a", "ssh://b", "ssh://c"]


def test_all_of_them_are_answered_for() -> None:
    found = configured(place("ssh://a"), place("ssh://b"))
    assert found == {"ssh://a": ["ssh://a"], "ssh://b": ["ssh://b"]}


def test_a_single_one_fails_with_its_own_error() -> None:
    with pytest.raises(UsageError, match="wrong"):
        configured(place("ssh://a", UsageError("wrong")))


def test_names_are_separated_by_commas_and_each_is_opened_once() -> None:
    settings = replace(Settings(), node="ssh://a, ssh://b,ssh://a")
    found = opened(settings, "crio", lambda one: place(one.node))
    assert [each.settings.node for each in found.each] == ["ssh://a", "ssh://b"]


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ("ssh://root@a", True),
        ("ssh://a:22", True),
        ("ssh://A", True),
        ("ssh://alias", True),
        ("ssh://a:2222", False),
        ("ssh://behind", False),
    ],
)
def test_a_machine_under_two_names_is_refused(
    other: str, same: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/config").write_text(
        "Host alias\n  HostName a\nHost behind\n  HostName a\n  ProxyCommand nc gate %h %p\n"
    )
    settings = replace(Settings(), node=f"ssh://a,{other}")
    with pytest.raises(UsageError, match=f"ssh://a and {other} are one machine") if same else nullcontext():
        opened(settings, "crio", lambda one: place(one.node))


@pytest.mark.parametrize(
    ("failing", "recorded"),
    [((), "ssh://a,ssh://b"), (("ssh://b",), "ssh://a"), (("ssh://a", "ssh://b"), "")],
)
def test_the_verbs_after_set_up_mean_those_that_were(tmp_path: Path, failing: tuple[str, ...], recorded: str) -> None:
    each = [
        place(name, InfrastructureError("cannot be reached") if name in failing else None, tmp_path)
        for name in ("ssh://a", "ssh://b")
    ]
    with pytest.raises(InfrastructureError) if failing else nullcontext():
        configured(*each, plan=False)
    assert recorded_place(tmp_path, "crio") == recorded


@pytest.mark.parametrize(("recorded", "after"), [("ssh://a,ssh://b", ""), ("ssh://c", "ssh://c")])
def test_clean_forgets_them_together_and_no_other_place(tmp_path: Path, recorded: str, after: str) -> None:
    record_place(tmp_path, recorded, "crio")
    Places([place("ssh://a", state=tmp_path), place("ssh://b", state=tmp_path)], "crio").cleaned(str, plan=False)
    assert recorded_place(tmp_path, "crio") == after


def test_a_plan_records_nothing(tmp_path: Path) -> None:
    configured(place("ssh://a", state=tmp_path), place("ssh://b", state=tmp_path), plan=True)
    assert recorded_place(tmp_path, "crio") == ""
