from __future__ import annotations

import json

import pytest

from countersign.console.config import Settings
from countersign.console.errors import VerdictError
from lab.trials.places import Wanted, run_places, wanted


def written(state):
    """Return what was written of each place, less when the run began: the same for all."""
    places = json.loads((state / "report" / "places.json").read_text())
    assert len({place.pop("began") for place in places}) == 1
    return places


def test_a_place_that_is_named_is_the_only_one(tmp_path):
    assert wanted(Settings(state=tmp_path), "host") == [Wanted("host")]


def test_a_place_that_the_machine_cannot_carry_is_left_out_with_its_reason(tmp_path, monkeypatch):
    monkeypatch.setattr("kind.engine.why_not", lambda _: "no Docker Engine answers")
    found = {each.place: each.why_not for each in wanted(Settings(state=tmp_path))}
    assert found["kind"] == "no Docker Engine answers"
    ran: list[str] = []
    run_places(Settings(state=tmp_path), [Wanted("host"), Wanted("kind", found["kind"])], ran.append)
    assert ran == ["host"]
    assert written(tmp_path) == [
        {"place": "host", "ran": True, "why": ""},
        {"place": "kind", "ran": False, "why": "no Docker Engine answers"},
    ]


def test_what_failed_is_written_down_too(tmp_path):
    def work(place: str) -> None:
        raise VerdictError("1 row came out otherwise")

    with pytest.raises(VerdictError):
        run_places(Settings(state=tmp_path), [Wanted("host"), Wanted("kind")], work)
    assert written(tmp_path) == [{"place": "host", "ran": True, "why": "1 row came out otherwise"}]
