from __future__ import annotations

import pytest

from countersign.console.errors import InfrastructureError
from lab.bench import evidence

LINES = "".join(
    f"BenchmarkAmongImages/{name}/{images}-2 \t 20\t {nanoseconds} ns/op\n"
    for name, few, many in (
        ("warm", 50_000, 50_000),
        ("cold", 200_000, 400_000),
        ("store", 4e6, 5e6),
        ("open", 3e5, 9e8),
    )
    for images, nanoseconds in ((10, few), (10_000, many))
)


def test_many_images_are_compared_with_few_and_a_start_has_no_goal() -> None:
    found = evidence.document(LINES, 20, {})
    assert {each["what"]: each["ratio"] for each in found["measured"]} == {
        "warm": 1.0,
        "cold": 2.0,
        "store": 1.25,
        "open": 3000.0,
    }
    assert [goal["met"] for goal in found["goals"]] == [True, False, True]
    assert evidence.rows(found)[1] == ("a verdict from evidence", "0.200", "0.400", "2.00")


def test_the_median_of_the_runs_counts() -> None:
    slow = LINES.replace("50000 ns/op", "90000 ns/op")
    assert evidence.document(LINES + slow + LINES, 20, {})["measured"][0]["few"] == 0.05


def test_what_was_not_measured_is_an_error() -> None:
    with pytest.raises(InfrastructureError, match="measured no store/10000"):
        evidence.document("\n".join(line for line in LINES.splitlines() if "store/10000" not in line), 20, {})
