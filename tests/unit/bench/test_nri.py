"""The document and the table of bench.nri."""

from __future__ import annotations

import pytest

from lab.bench.nri import COLUMNS, Sample, document, rows

SAMPLES = [
    Sample(variant, 10 + extra, 100 + extra + number)
    for variant, extra in (("hook", 0), ("both", 2))
    for number in range(9)
]


def test_nri_is_compared_with_the_hook_alone() -> None:
    found = document(SAMPLES, {})
    assert (found["creates"]["hook"]["median"], found["creates"]["both"]["median"]) == (10, 12)
    assert (found["over"]["median"], found["ratio"]) == (2, pytest.approx(106 / 104))
    assert [goal["met"] for goal in found["goals"]] == [True]
    table = rows(found)
    assert {len(row) for row in table} == {len(COLUMNS)}
    assert [row[-2:] for row in table] == [("", ""), ("+2.0 (+2.0 … +2.0)", "1.019")]
