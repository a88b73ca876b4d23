"""A start is as it must be only if verdict, code and who refused all are."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lab.trials.crio_place import CrioPlace
from lab.trials.crio_starts import DURING, STARTS, STORES
from lab.trials.engines import OWN, rows
from lab.trials.model import load
from lab.trials.rows import Found, compare

RUNS, REFUSED = (next(start for start in STARTS if start.name == name) for name in ("signed", "tag-moved"))
BY_GATE = Found(False, code="UNSIGNED", by="gate")


@pytest.mark.parametrize(
    ("start", "found", "difference"),
    [
        (REFUSED, BY_GATE, ""),
        (REFUSED, replace(BY_GATE, by="own"), "refused by own, expected gate"),
        (REFUSED, replace(BY_GATE, code="NO_SCOPE"), "code NO_SCOPE, expected UNSIGNED"),
        (REFUSED, Found(True, code="OK"), "it ran"),
        (RUNS, Found(True, code="OK"), ""),
        (RUNS, replace(BY_GATE, message="no"), "it was refused: no"),
    ],
)
def test_a_difference_is_told(start, found, difference) -> None:
    assert compare(start, found).differences == ((difference,) if difference else ())


def test_every_start_has_a_name_of_its_own_and_refusals_say_by_whom() -> None:
    assert len({each.name for each in STARTS}) == len(STARTS)
    assert all(each.allow != bool(each.by) for each in STARTS)


def test_every_start_is_made_of_what_there_is_and_all_of_that_is_tried() -> None:
    assert {each.store for each in STARTS} == set(STORES)
    assert {name for each in STARTS for name in each.during} == set(DURING)


def test_the_gate_judges_every_image_of_the_matrix_at_create() -> None:
    assert {case.layer for case in CrioPlace.rows(load())} == {"create"}
    images = {row.image for row in rows(OWN, load())}
    assert {"attachment", "bundle", "unsigned", "pinned", "two_scopes_b"} <= images


def test_what_cri_o_says_otherwise_than_containerd_is_put_into_its_rows() -> None:
    codes = {case.id: case.code for case in CrioPlace.rows(load())}
    assert codes["two_scopes_a/import"] == "BAD_SIGNATURE"
    assert {code for name, code in codes.items() if "/volume" in name} == {"UNSUPPORTED_RUNTIME"}
