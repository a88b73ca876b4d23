"""A start is as it must be only if verdict, code and who refused all are."""

from __future__ import annotations

import pytest

from lab.trials.crio_starts import STARTS, Seen, Start
from lab.trials.crio_trial import images, rows


def start(code: str = "", by: str = "") -> Start:
    return Start("name", "about", lambda _: Seen(allow=True), code, by)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wanted", "seen", "difference"),
    [
        (start("UNSIGNED", "gate"), Seen(allow=False, code="UNSIGNED", by="gate"), ""),
        (start("UNSIGNED", "gate"), Seen(allow=False, code="UNSIGNED", by="own"), "UNSIGNED by own"),
        (start("UNSIGNED", "gate"), Seen(allow=False, code="NO_SCOPE", by="gate"), "NO_SCOPE by gate"),
        (start("UNSIGNED", "gate"), Seen(allow=True), "it ran"),
        (start(), Seen(allow=True), ""),
        (start(), Seen(allow=False, message="no"), "it was refused: no"),
    ],
)
def test_a_difference_is_told(wanted: Start, seen: Seen, difference: str) -> None:
    assert wanted.difference(seen).startswith(difference)
    assert bool(wanted.difference(seen)) == bool(difference)


def test_every_start_has_a_name_of_its_own_and_refusals_say_by_whom() -> None:
    assert len({each.name for each in STARTS}) == len(STARTS)
    assert all(bool(each.code) == bool(each.by) for each in STARTS)


def test_the_gate_judges_every_image_of_the_matrix_at_create() -> None:
    assert {case.layer for case in rows()} == {"create"}
    assert {"attachment", "bundle", "unsigned", "pinned", "two_scopes_b"} <= set(images())
