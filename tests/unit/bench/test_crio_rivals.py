"""bench.crio-rivals: each row is tried with an image that the engine can verify, and counts under its own name."""

from __future__ import annotations

from lab.bench import crio_rivals, show
from lab.trials import bypass, model
from lab.trials.crio_place import CrioPlace

ROWS = {case.id: case for case in CrioPlace.rows(model.load()) if case.id in bypass.load().rows}


def test_what_is_signed_by_a_bundle_alone_is_tried_in_both_formats() -> None:
    tried = crio_rivals.honest(ROWS["bundle/pull"])
    assert (tried.image, tried.way, tried.code) == ("both", "pull", "OK")
    assert "both" in {case.image for case in model.load()}


def test_every_other_image_is_tried_as_it_is() -> None:
    others = [case for case in ROWS.values() if case.image != "bundle"]
    assert len(others) > 15
    assert [crio_rivals.honest(case) for case in others] == others


def test_a_verdict_is_the_same_with_the_other_image() -> None:
    assert all(crio_rivals.honest(case).code == case.code for case in ROWS.values())


def test_the_page_has_a_place_for_the_table() -> None:
    page = show.PAGE.read_text(encoding="utf-8")
    assert all(mark in page for mark in show.CRIO)
