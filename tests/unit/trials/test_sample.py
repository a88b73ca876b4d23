"""A place that only adds another way to a node takes a sample of the matrix, which shows all that the whole does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from countersign.console.config import Settings
from lab.trials import matrix, runner
from lab.trials.crio_place import CrioPlace
from lab.trials.model import KINDS, Case, kind_of, load, sample, shows
from lab.trials.rows import OK, reason_codes
from tests.unit.trials.toy import Toy, images

WHOLE = load()


@pytest.mark.parametrize("rows", [WHOLE, CrioPlace.rows(WHOLE)], ids=["containerd", "crio"])
def test_the_sample_shows_every_code_way_name_and_registry_that_the_whole_matrix_shows(rows: list[Case]) -> None:
    taken = sample(rows, shows)
    for seen in (
        lambda row: (row.code, row.layer),
        lambda row: (row.way, row.allow, row.evidence),
        lambda row: row.name,
        lambda row: row.registry,
    ):
        assert {seen(row) for row in taken} == {seen(row) for row in rows}
    assert len(taken) < len(rows) / 3
    assert [row for row in rows if row in taken] == taken, "in the order of the matrix"


def test_the_sample_has_an_allowed_row_for_each_root_and_format() -> None:
    allowed = [row for row in sample(WHOLE, shows) if row.code == OK]
    assert {kind_of(row.image) for row in allowed} == {"", *KINDS}
    assert {
        *("attachment", "bundle", "keyless_attachment", "keyless_bundle", "pki_attachment", "pki_bundle"),
        *("attested_bundle", "attested_cosign2", "notation_right", "provenance_alone", "sbom_large"),
    } <= {row.image for row in allowed}


def test_a_code_that_only_a_row_of_its_own_shows_is_in_the_sample() -> None:
    code = next(code for code in reason_codes() if code not in {row.code for row in WHOLE})
    assert replace(WHOLE[0], code=code) in sample([*WHOLE, replace(WHOLE[0], code=code)], shows)


@pytest.mark.parametrize(
    ("node", "all_rows", "whole"),
    [
        ("host", False, True),
        ("kind-worker", False, False),
        ("root@machine", False, False),
        ("kind-worker", True, True),
    ],
)
def test_the_host_takes_the_whole_matrix_and_other_places_where_that_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], node: str, all_rows: bool, whole: bool
) -> None:
    series = matrix.series(toy(node), lambda: images(tmp_path / "images", Toy.registries))
    runner.run(Settings(state=tmp_path), [series], all_rows=all_rows)
    document = json.loads((tmp_path / "report" / f"matrix-toy-{node}.json").read_text())
    able = [row.id for row in series.rows if not series.why_not(row)]
    tried = [row["id"] for row in document["rows"]]
    assert (tried == able) is whole
    told = f"{len(able) - len(tried)} rows show the same: they run on host, here with --all-rows"
    assert (told in capsys.readouterr().err) is not whole


def test_rows_that_are_named_run_on_any_place(tmp_path: Path) -> None:
    series = matrix.series(toy("kind-worker"), lambda: images(tmp_path / "images", Toy.registries))
    left_out = next(row.id for row in series.rows if row not in series.sample(series.rows))
    runner.run(Settings(state=tmp_path), [series], [left_out])
    document = json.loads((tmp_path / "report" / "matrix-toy-kind-worker.json").read_text())
    assert left_out in {row["id"] for row in document["rows"]}


def toy(node: str) -> Toy:
    """Return the runtime in memory on another node."""
    found = Toy()
    found.node = node
    return found
