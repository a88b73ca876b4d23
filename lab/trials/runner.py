"""Run trials of every kind the same way: choose rows, try, show and write them, and say how to repeat failures."""

from __future__ import annotations

import json as jsonlib
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing

from countersign.console import output
from countersign.console.config import Settings
from countersign.console.errors import UsageError, VerdictError
from lab.trials.document import COLUMNS, cells, document
from lab.trials.rows import Outcome, Row, Series

REPEATED = 3
"""How many rows the command that repeats failures names."""
SOURCES = "lab/trials: matrix.yaml, pods/scenarios.yaml, crio_starts.yaml"
"""Where the names of rows are."""


def select(series: Sequence[Series], only: Sequence[str]) -> list[tuple[Series, list[Row]]]:
    """Return the series that have rows whose names begin with one of ``only``, each with these; without any, all rows.

    Raises:
        UsageError: one of ``only`` names no row.
    """
    for name in only:
        if not any(row.id.startswith(name) for each in series for row in each.rows):
            raise UsageError(f"no row begins with {name!r}", where="--only", do=f"see {SOURCES}")
    chosen = [
        (each, [row for row in each.rows if not only or any(row.id.startswith(name) for name in only)])
        for each in series
    ]
    return [(each, rows) for each, rows in chosen if rows]


def run(
    settings: Settings,
    series: Sequence[Series],
    only: Sequence[str] = (),
    *,
    json: bool = False,
    all_rows: bool = False,
) -> None:
    """Try the chosen rows of each series, show them, and write a document of each into the report's folder.

    A series whose rows came out otherwise does not keep the next from being tried.

    Args:
        only: beginnings of rows' names; without any, each series' own sample.

    Raises:
        UsageError: one of ``only`` names no row.
        VerdictError: a row came out otherwise than it says; logs and configuration were kept.
    """
    whole = all_rows or bool(only)
    failures = [
        failure for each, rows in select(series, only) for failure in _run(settings, each, rows, json=json, whole=whole)
    ]
    if failures:
        raise failures[0] if len(failures) == 1 else VerdictError("; ".join(map(str, failures)))


def _run(settings: Settings, series: Series, rows: Sequence[Row], *, json: bool, whole: bool) -> list[VerdictError]:

    able = [row for row in rows if not series.why_not(row)]
    taken = able if whole else series.sample(able)
    outcomes = _tried(series, taken)
    output.table(COLUMNS, cells(outcomes), title=f"{series.kind}: {series.runtime} on {series.node}")
    for why, number in Counter(filter(None, map(series.why_not, rows))).items():
        output.skipped(f"{number} rows: {why}")
    if len(taken) < len(able):
        output.skipped(f"{len(able) - len(taken)} rows show the same: they run on host, here with --all-rows")
    found = document(series, outcomes)
    path = settings.state / "report" / f"{series.kind}-{series.runtime}-{series.node}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(jsonlib.dumps(found, indent=2) + "\n", encoding="utf-8")
    if series.at:
        output.say(f"verdict log {series.at.layout.verdicts}")
    output.say(f"JSON        {path}")
    if json:
        output.emit_json(found)
    wrong = [outcome.row for outcome in outcomes if outcome.differences]
    failures = _needless(series, taken)
    if wrong:
        _keep(settings, series)
        text = f"{len(wrong)} of {len(outcomes)} rows came out otherwise"
        failures.insert(0, VerdictError(text, do=f"repeat with {series.repeat(wrong[:REPEATED])}"))
    if not failures:
        output.done(f"{len(outcomes)} rows came out as they must")
    return failures


def _tried(series: Series, rows: Sequence[Row]) -> list[Outcome]:
    """Try rows, say so as soon as one goes wrong, and return the outcomes in the order of the rows."""
    outcomes: dict[str, Outcome] = {}
    with output.progress(f"{len(rows)} rows") as far, closing(series.attempt(rows)) as tried:
        for outcome in tried:
            outcomes[outcome.row.id] = outcome
            if outcome.differences:
                output.failed(f"{outcome.row.id}: {'; '.join(outcome.differences)}")
            far(f"{len(outcomes)} of {len(rows)}, {outcome.row.id}")
    return [outcomes[row.id] for row in rows]


def _needless(series: Series, rows: Sequence[Row]) -> list[VerdictError]:
    """Return what these rows, which were tried, did not need of the reviewed differences of their images."""
    tried = {row.image for row in rows}
    unused = series.known[0].unused(series.known[1]) if series.known else []
    names = ", ".join(entry.image for entry in unused if entry.image in tried)
    where = "lab/trials/differences.yaml"
    return [VerdictError(f"excused, and no difference: {names}", where=where, do="remove it there")] if names else []


def _keep(settings: Settings, series: Series) -> None:
    from countersign.enforcement.runtime import collect

    if series.at:
        output.say(f"artifacts   {collect(series.at, settings.state / 'artifacts' / time.strftime('%Y%m%dT%H%M%S'))}")
