"""The matrix as a person and as a program read it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lab.trials.run import Outcome

COLUMNS = ("image", "way in", "layer", "expected", "actual", "gate ms", "start ms", "")


def rows(outcomes: Sequence[Outcome]) -> list[tuple[str, ...]]:
    """Return the table's cells, one row an outcome, in the order of ``COLUMNS``."""
    return [_row(outcome) for outcome in outcomes]


def document(runtime: str, node: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return the JSON document ``countersign.matrix/v1``.

    Args:
        runtime: the runtime's name.
        node: the node's name.
        outcomes: what came out, row by row; times are in milliseconds.
    """
    return {
        "version": "countersign.matrix/v1",
        "runtime": runtime,
        "node": node,
        "rows": [_entry(runtime, outcome) for outcome in outcomes],
        "passed": sum(not outcome.differences for outcome in outcomes),
        "failed": sum(bool(outcome.differences) for outcome in outcomes),
    }


def _row(outcome: Outcome) -> tuple[str, ...]:
    case, trial, verdict = outcome.case, outcome.trial, outcome.verdict
    way = "/".join(case.id.split("/")[1:])
    actual = f"{'allow' if trial.allow else 'refuse'} {outcome.code or '?'}"
    gate = f"{verdict['ms']:.2f}" if verdict else "-"
    expected = f"{'allow' if case.allow else 'refuse'} {case.code}"
    mark = "✗ " + "; ".join(outcome.differences) if outcome.differences else "✓"
    return (case.image, way, trial.layer, expected, actual, gate, f"{trial.millis:.0f}", mark)


def _entry(runtime: str, outcome: Outcome) -> dict[str, Any]:
    case, trial = outcome.case, outcome.trial
    return {
        "id": case.id,
        "image": case.image,
        "way": case.way,
        "name": case.name,
        "registry": case.registry,
        "layer": {"expected": case.layer, "actual": trial.layer},
        "allow": {"expected": case.allow, "actual": trial.allow},
        "code": {"expected": case.code, "actual": outcome.code},
        "cri_ms": round(trial.millis, 2),
        "gate_ms": round(outcome.verdict["ms"], 3) if outcome.verdict else None,
        "message": trial.message,
        "differences": list(outcome.differences),
        "repeat": f"./inv {runtime}.test --only {case.id}",
    }
