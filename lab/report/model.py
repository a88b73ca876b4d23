"""The documents of earlier runs, read back as one list of rows."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from countersign.console.errors import InfrastructureError
from lab.trials.consistency import Consistency, compare
from lab.trials.document import VERSION, verdict

BENCH = "bench-start.json"
PLACES = "places.json"
SIZE_LIMIT = 32 << 20
TEXT_LIMIT = 2000
"""Characters of a runtime's message that are shown; they come from registries and runtimes."""


@dataclass(frozen=True)
class Row:
    """One trial.

    Attributes:
        kind: of trial, such as ``matrix``.
        runtime: ``containerd`` or ``crio``.
        node: the node's name, for pods the cluster's.
        id: the trial's name.
        way: how it came to the node, or into the cluster, or what was done.
        expected: such as ``refuse UNSIGNED``.
        passed: whether all was as it must be.
        message: the reason, as the runtime gave it.
        differences: what was not as it must be.
        excused: why something else than expected is right nevertheless.
        cri_ms: milliseconds of the deciding call; None is unknown.
        gate_ms: milliseconds in the gate.
        repeat: the command that repeats it.
        tried: when, in UTC.
        stale: the last run did not try it, so that it tells of an earlier one.
    """

    kind: str
    runtime: str
    node: str
    id: str
    image: str
    way: str
    layer: str
    expected: str
    actual: str
    passed: bool
    message: str
    differences: tuple[str, ...]
    excused: str
    cri_ms: float | None
    gate_ms: float | None
    repeat: str
    tried: str = ""
    stale: bool = False


@dataclass(frozen=True)
class Report:
    """All that is known of a state folder.

    Attributes:
        made: when this was put together, in UTC.
        began: when the last run of all places began, in UTC; empty if there was none.
        rows: of every document, failures first.
        places: what ran, and what was left out and why.
        bench: the document of bench.start, if there is one.
        measured: when that was, in UTC.
        consistency: what each engine says of each image; None if none but containerd's gate was asked.
    """

    made: str
    rows: tuple[Row, ...]
    places: tuple[Mapping[str, Any], ...] = ()
    bench: Mapping[str, Any] | None = field(default=None, repr=False)
    consistency: Consistency | None = None
    began: str = ""
    measured: str = ""

    @property
    def stale(self) -> int:
        """How many trials the last run did not try."""
        return sum(row.stale for row in self.rows)

    @property
    def broken(self) -> int:
        """How many places of the last run failed, also those that came to no trial."""
        return sum(bool(place["ran"] and place["why"]) for place in self.places)

    @property
    def good(self) -> bool:
        """Whether the last run tried all that is shown, and all was as it must be."""
        return not (self.failed or self.stale or self.broken)

    @property
    def failed(self) -> int:
        """How many trials are not as they must be."""
        return sum(not row.passed for row in self.rows)

    def groups(self) -> list[tuple[str, str, str, int, int, str, bool]]:
        """Return kind, runtime, node, how many rows passed and failed, when they were tried, and whether before."""
        keys = {(row.kind, row.runtime, row.node): (row.tried, row.stale) for row in self.rows}
        return [(*key, *self._counts(key), *keys[key]) for key in sorted(keys)]

    def _counts(self, key: tuple[str, str, str]) -> tuple[int, int]:
        own = [row.passed for row in self.rows if (row.kind, row.runtime, row.node) == key]
        return sum(own), len(own) - sum(own)

    def as_json(self) -> dict[str, Any]:
        """Return the document ``countersign.report/v2``."""
        return {
            "version": "countersign.report/v2",
            "made": self.made,
            "passed": len(self.rows) - self.failed,
            "failed": self.failed,
            "began": self.began,
            "stale": self.stale,
            "places": list(self.places),
            "rows": [asdict(row) for row in self.rows],
            "consistency": self.consistency.as_json() if self.consistency else None,
        }


def load(folder: Path) -> Report:
    """Return what the documents in a report folder say; files that are not documents of ours are left alone.

    Raises:
        InfrastructureError: a document of ours cannot be read.
    """
    places = _read(folder / PLACES) if (folder / PLACES).is_file() else []
    began = min((float(place.get("began", 0)) for place in places), default=0.0)
    found = [(_read(path), path.stat().st_mtime) for path in _paths(folder)]
    rows = [row for document, when in found for row in _rows(document, _utc(when), when < began)]
    bench = folder / BENCH
    compared = compare([document for document, _ in found])
    return Report(
        made=_utc(time.time()),
        rows=tuple(sorted(rows, key=lambda row: row.passed)),
        places=tuple(places),
        bench=_read(bench) if bench.is_file() else None,
        consistency=compared if compared.of_others else None,
        began=_utc(began) if began else "",
        measured=_utc(bench.stat().st_mtime) if bench.is_file() else "",
    )


def _utc(when: float) -> str:
    return datetime.fromtimestamp(when, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def _paths(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.json"))


def documents(folder: Path) -> list[Any]:
    """Return the content of every JSON file of a report folder, ours or not.

    Raises:
        InfrastructureError: one cannot be read.
    """
    return [_read(path) for path in _paths(folder)]


def _read(path: Path) -> Any:
    if path.stat().st_size > SIZE_LIMIT:
        raise InfrastructureError(f"is larger than {SIZE_LIMIT >> 20} MiB", where=str(path))
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InfrastructureError(
            f"is not JSON ({error})", where=str(path), do="run the task that writes it again"
        ) from None


def _rows(document: Any, tried: str, stale: bool) -> Iterator[Row]:
    if not isinstance(document, dict) or document.get("version") != VERSION:
        return
    for entry in document["rows"]:
        yield Row(
            kind=str(document["kind"]),
            runtime=str(document["runtime"]),
            node=str(document["node"]),
            id=str(entry["id"]),
            image=str(entry["image"]),
            way=str(entry["way"]),
            layer=str(entry["layer"]["actual"]),
            expected=_verdict(entry, "expected"),
            actual=_verdict(entry, "actual"),
            passed=not entry["differences"],
            message=str(entry["message"])[:TEXT_LIMIT],
            differences=tuple(str(each)[:TEXT_LIMIT] for each in entry["differences"]),
            excused=str(entry["excused"])[:TEXT_LIMIT],
            cri_ms=entry.get("cri_ms"),
            gate_ms=entry.get("gate_ms"),
            repeat=str(entry["repeat"]),
            tried=tried,
            stale=stale,
        )


def _verdict(entry: Mapping[str, Any], which: str) -> str:
    return verdict(*(entry[what][which] for what in ("allow", "code", "by")))


def choices(rows: Sequence[Row], what: str) -> list[str]:
    """Return the values that a column has, for its filter."""
    return sorted({str(getattr(row, what)) for row in rows})
