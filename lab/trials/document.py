"""What came of trials as a person and as a program read it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lab.trials.rows import Outcome, Series

VERSION = "countersign.trials/v1"
COLUMNS = ("image", "way in", "layer", "expected", "actual", "gate ms", "call ms", "")


def verdict(allow: bool, code: str, by: str = "") -> str:
    """Return a verdict in words, such as ``refuse UNSIGNED by gate``."""
    return f"{'allow' if allow else 'refuse'} {code or '?'}{f' by {by}' if by else ''}"


def cells(outcomes: Sequence[Outcome]) -> list[tuple[str, ...]]:
    """Return the table's cells, one row an outcome, in the order of ``COLUMNS``."""
    return [_cells(outcome) for outcome in outcomes]


def document(series: Series, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return the JSON document ``countersign.trials/v1``; times are in milliseconds."""
    return {
        "version": VERSION,
        "kind": series.kind,
        "runtime": series.runtime,
        "node": series.node,
        "rows": [_entry(series, outcome) for outcome in outcomes],
        "passed": sum(not outcome.differences for outcome in outcomes),
        "failed": sum(bool(outcome.differences) for outcome in outcomes),
    }


def _cells(outcome: Outcome) -> tuple[str, ...]:
    row, found = outcome.row, outcome.found
    mark = f"differs: {outcome.excused}" if outcome.excused else "✓"
    return (
        *row.shown,
        found.layer,
        verdict(row.allow, row.code, row.by),
        verdict(found.allow, found.code, found.by),
        "-" if found.gate_millis is None else f"{found.gate_millis:.2f}",
        "-" if found.millis is None else f"{found.millis:.0f}",
        "✗ " + "; ".join(outcome.differences) if outcome.differences else mark,
    )


def _entry(series: Series, outcome: Outcome) -> dict[str, Any]:
    row, found = outcome.row, outcome.found
    return {
        "id": row.id,
        "image": row.image,
        "way": row.way,
        **row.details,
        "layer": {"expected": row.layer, "actual": found.layer},
        "allow": {"expected": row.allow, "actual": found.allow},
        "code": {"expected": row.code, "actual": found.code},
        "by": {"expected": row.by, "actual": found.by},
        "cri_ms": found.millis if found.millis is None else round(found.millis, 2),
        "gate_ms": found.gate_millis if found.gate_millis is None else round(found.gate_millis, 3),
        "nodes": list(found.nodes),
        "message": found.message,
        "differences": list(outcome.differences),
        "excused": outcome.excused,
        "repeat": series.repeat([row]),
    }
