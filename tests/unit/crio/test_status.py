"""``crio.status`` answers for every place that is named, with one document, whatever the answer is."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from invoke.config import Config
from invoke.context import MockContext
from invoke.exceptions import Exit

from countersign.console.errors import InfrastructureError
from countersign.enforcement.several import Places
from crio import commands
from crio.runtime import Crio


def place(name: str, problem: str = "", failure: Exception | None = None) -> Any:
    def report() -> dict[str, Any]:
        if failure:
            raise failure
        found = {"node": name, "problem": problem, "do": "mend it"}
        return {
            "version": "countersign.crio-status/v1",
            "ok": not problem,
            "place": name,
            "services": [],
            "runtimes": [],
            "problems": [found] if problem else [],
            "warnings": [{"node": name, "warning": "no credentials"}],
        }

    return SimpleNamespace(settings=SimpleNamespace(node=name), report=report, adapter=Crio)


@pytest.fixture
def status(monkeypatch) -> Callable[..., None]:
    def run(*places: Any, json: bool) -> None:
        monkeypatch.setattr("countersign.runtimes.verbs.open_places", lambda *_: Places(places, "crio"))
        commands.status(MockContext(config=Config()), json=json)

    return run


def test_two_places_that_enforce_are_one_document(status, capsys):
    status(place("ssh://a"), place("ssh://b"), json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["version"] == "countersign.documents/v1"
    assert [(each["place"], each["ok"]) for each in found["documents"]] == [("ssh://a", True), ("ssh://b", True)]


@pytest.mark.parametrize(
    "wrong", [place("ssh://b", "hook is replaced"), place("ssh://b", failure=InfrastructureError("cannot be reached"))]
)
def test_one_that_does_not_enforce_or_cannot_be_asked_is_in_the_document_and_hides_no_other(status, capsys, wrong):
    with pytest.raises(Exit, match=r"ssh://b: not enforcing") as caught:
        status(place("ssh://a"), wrong, place("ssh://c"), json=True)
    assert caught.value.code == 4
    found = json.loads(capsys.readouterr().out)
    assert [(each["place"], each["ok"]) for each in found["documents"]] == [
        ("ssh://a", True),
        ("ssh://b", False),
        ("ssh://c", True),
    ]


def test_people_read_each_finding_with_what_mends_it_and_warnings(status, capsys):
    with pytest.raises(Exit):
        status(place("ssh://a", "hook is replaced"), json=False)
    shown = capsys.readouterr().err
    assert "ssh://a: hook is replaced; mend it" in shown
    assert "ssh://a: no credentials" in shown
