"""The bypass suite names rows that there are, each with its twin; what the runs show of it is what they found."""

from __future__ import annotations

from pathlib import Path

import pytest

from countersign.console.errors import UsageError
from lab.trials import bypass, matrix, ways
from lab.trials.lab import Lab
from lab.trials.model import Case
from tests.unit.trials import toy

ATTACK = "{name: a, about: b, row: unsigned/pull, twin: bundle/pull}"


def written(folder: Path, attacks: str, honest: str = "") -> Path:
    path = folder / "attacks.yaml"
    path.write_text(f"attacks: [{attacks}]\nhonest: [{honest}]\n")
    return path


def test_the_suite_holds_and_says_of_every_loss_why() -> None:
    suite = bypass.load()
    assert len(suite.attacks) >= 25
    assert [each.name for each in suite.attacks if each.known] == ["copied-bundle"]


def test_an_attack_has_a_twin_that_differs() -> None:
    assert all(each.row != each.twin for each in bypass.load().attacks)


def test_every_way_that_is_an_attack_is_in_the_suite() -> None:
    """What only fails, or is only another name of the same, is no attack of its own."""
    not_attacks = {"registry_back", "runtime_restarted", "gate_stopped_at_start"}
    both = {"added_handler_gate_hung", "hook_program_missing_gate_hung"}
    known = bypass.known_rows()
    used = {row.way for name in bypass.load().rows if isinstance(row := known[name], Case)}
    assert set(ways.WAYS) - used == not_attacks | both | {"gate_hung"}


@pytest.mark.parametrize(
    ("attacks", "honest", "says"),
    [
        ("{name: a, about: b, row: unsigned/none, twin: bundle/pull}", "", "there is no row 'unsigned/none'"),
        ("{name: a, about: b, row: bundle/pull, twin: bundle/import}", "", "bundle/pull is OK"),
        ("{name: a, about: b, row: unsigned/pull, twin: unsigned/import}", "", "unsigned/import is UNSIGNED"),
        ("{name: a, about: b, row: unsigned/pull, twin: bundle/pull, known: so}", "", "unsigned/pull is UNSIGNED"),
        (ATTACK, "{name: c, about: b, row: unsigned/pull}", "unsigned/pull is UNSIGNED"),
        (f"{ATTACK}, {ATTACK}", "", "a stands twice"),
    ],
)
def test_a_suite_that_does_not_hold_is_refused(attacks: str, honest: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=says):
        bypass.load(written(tmp_path, attacks, honest))


def test_its_rows_are_tried_by_the_engine_of_the_matrix(tmp_path: Path) -> None:
    place = toy.Toy()

    def images() -> Lab:
        return toy.images(tmp_path, place.registries)

    suite = bypass.load(written(tmp_path, ATTACK, "{name: c, about: d, row: both/registry_back}"))
    (series,) = bypass.of([matrix.series(place, images)], suite)
    outcomes = list(series.attempt(series.rows))
    assert [(each.row.id, each.found.allow, each.differences) for each in outcomes] == [
        ("both/registry_back", True, ()),
        ("bundle/pull", True, ()),
        ("unsigned/pull", False, ()),
    ]
