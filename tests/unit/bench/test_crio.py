"""The document and the table of bench.crio."""

from __future__ import annotations

from lab.bench.crio import COLUMNS, Sample, document, rows

SAMPLES = [
    Sample(variant, 100 + extra + number, 290)
    for variant, extra in (("nothing", 0), ("own", 1), ("gate", 9), ("both", 11))
    for number in range(10)
]


def test_each_variant_is_compared_with_nothing_round_by_round() -> None:
    found = document(SAMPLES, {"configure": 4.0, "again": 5.0}, {})
    assert {key: each["median"] for key, each in found["overNothing"].items()} == {
        "nothing": 0,
        "own": 1,
        "gate": 9,
        "both": 11,
    }
    assert [goal["met"] for goal in found["goals"]] == [True, False]
    table = rows(found)
    assert {len(row) for row in table} == {len(COLUMNS)}
    assert [row[0] for row in table] == ["nothing", "its own policy", "the gate", "both"]
    assert table[2][3].startswith("+9.0")
