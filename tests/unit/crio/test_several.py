"""Several machines at once: one that fails stops no other, and the end names it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from countersign.console.config import Settings
from countersign.console.errors import InfrastructureError, UsageError
from crio import several
from crio.several import Places


def place(name: str, failure: Exception | None = None) -> Any:
    def configure(**_: bool) -> list[str]:
        if failure:
            raise failure
        return [name]

    return SimpleNamespace(settings=SimpleNamespace(node=name), configure=configure)


def test_one_that_fails_stops_no_other_and_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    places = Places([place("ssh://a"), place("ssh://b", InfrastructureError("cannot be reached")), place("ssh://c")])
    with pytest.raises(InfrastructureError, match=r"ssh://b: 1 of 3 machines were not configured"):
        places.configure(keep=False, plan=False)
    shown = capsys.readouterr().err
    assert "✓ configured" in shown
    assert "cannot be reached" in shown


def test_all_of_them_are_answered_for() -> None:
    places = Places([place("ssh://a"), place("ssh://b")])
    found: Any = places.configure(keep=False, plan=False)
    assert found == {"ssh://a": ["ssh://a"], "ssh://b": ["ssh://b"]}


def test_a_single_one_fails_with_its_own_error() -> None:
    with pytest.raises(UsageError, match="wrong"):
        Places([place("ssh://a", UsageError("wrong"))]).configure(keep=False, plan=False)


def test_names_are_separated_by_commas_and_each_is_opened_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(several, "open_place", lambda settings, **_: settings.node)
    found = several.open_places(replace(Settings(), node="ssh://a, ssh://b,ssh://a"))
    names: Any = found.each
    assert names == ["ssh://a", "ssh://b"]
