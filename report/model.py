"""The documents of earlier runs, read back as one list of rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cases.consistency import Consistency, compare
from console.errors import InfrastructureError

VERSIONS = {
    "countersign.matrix/v1": "matrix",
    "countersign.pods/v1": "pods",
    "countersign.admission/v1": "admission",
}
"""Versions of documents → what kind of trial their rows are."""
STARTS = "countersign.starts/v1"
BENCH = "bench-start.json"
PLACES = "places.json"
SIZE_LIMIT = 32 << 20
TEXT_LIMIT = 2000
"""Characters of a runtime's message that are shown; they come from registries and runtimes."""


@dataclass(frozen=True)
class Row:
    """One trial.

    Attributes:
        kind: ``matrix``, ``pods`` or ``admission``.
        runtime: ``containerd`` or ``crio``.
        node: the node's name, for pods the cluster's.
        id: the trial's name.
        image: what was tried.
        way: how it came to the node, or into the cluster.
        layer: where it was decided.
        expected: such as ``refuse UNSIGNED``.
        actual: the same.
        passed: whether all was as it must be.
        message: the reason, as the runtime gave it.
        differences: what was not as it must be.
        cri_ms: milliseconds of the deciding call; None is unknown.
        gate_ms: milliseconds in the gate.
        repeat: the command that repeats it.
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
    cri_ms: float | None
    gate_ms: float | None
    repeat: str


@dataclass(frozen=True)
class Start:
    """One way to start a container past the engine or the gate, and what came of it.

    Attributes:
        node: the node's name.
        name: the trial's name.
        about: what was tried.
        expected: the reason code; empty if it must run.
        actual: the same.
        by: who refused; empty if it ran.
        message: the reason, as the runtime gave it.
        difference: what was not as it must be; empty if nothing.
        repeat: the command that repeats it.
    """

    node: str
    name: str
    about: str
    expected: str
    actual: str
    by: str
    message: str
    difference: str
    repeat: str


@dataclass(frozen=True)
class Report:
    """All that is known of a state folder.

    Attributes:
        made: when, in UTC.
        rows: of every document, failures first.
        places: what ran, and what was left out and why.
        bench: the document of bench.start, if there is one.
        starts: the ways to start unseen, failures first.
        consistency: what each engine says of each image; None if none of CRI-O was asked.
    """

    made: str
    rows: tuple[Row, ...]
    places: tuple[Mapping[str, Any], ...] = ()
    bench: Mapping[str, Any] | None = field(default=None, repr=False)
    starts: tuple[Start, ...] = ()
    consistency: Consistency | None = None

    @property
    def trials(self) -> int:
        """How many trials there are, of rows and of starts."""
        return len(self.rows) + len(self.starts)

    @property
    def failed(self) -> int:
        """How many trials are not as they must be."""
        return sum(not row.passed for row in self.rows) + sum(bool(start.difference) for start in self.starts)

    def groups(self) -> list[tuple[str, str, str, int, int]]:
        """Return kind, runtime, node, and the numbers of rows passed and failed, for each document."""
        keys = dict.fromkeys((row.kind, row.runtime, row.node) for row in self.rows)
        return [(*key, *self._counts(key)) for key in sorted(keys)]

    def _counts(self, key: tuple[str, str, str]) -> tuple[int, int]:
        own = [row.passed for row in self.rows if (row.kind, row.runtime, row.node) == key]
        return sum(own), len(own) - sum(own)

    def as_json(self) -> dict[str, Any]:
        """Return the document ``countersign.report/v1``."""
        return {
            "version": "countersign.report/v1",
            "made": self.made,
            "passed": self.trials - self.failed,
            "failed": self.failed,
            "places": list(self.places),
            "rows": [asdict(row) for row in self.rows],
            "starts": [asdict(start) for start in self.starts],
            "consistency": self.consistency.as_json() if self.consistency else None,
        }


def load(folder: Path) -> Report:
    """Return what the documents in a report folder say; files that are no document of ours are left alone.

    Raises:
        InfrastructureError: a document of ours cannot be read.
    """
    found = documents(folder)
    rows = [row for document in found for row in _rows(document)]
    starts = sorted((start for document in found for start in _starts(document)), key=lambda one: not one.difference)
    places = _read(folder / PLACES) if (folder / PLACES).is_file() else []
    bench = _read(folder / BENCH) if (folder / BENCH).is_file() else None
    made = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    ordered = tuple(sorted(rows, key=lambda row: row.passed))
    compared = compare(found)
    consistency = compared if compared.of_crio else None
    return Report(made, ordered, tuple(places), bench, tuple(starts), consistency)


def documents(folder: Path) -> list[Any]:
    """Return the content of every JSON file of a report folder, ours or not.

    Raises:
        InfrastructureError: one cannot be read.
    """
    return [_read(path) for path in sorted(folder.glob("*.json"))]


def _read(path: Path) -> Any:
    if path.stat().st_size > SIZE_LIMIT:
        raise InfrastructureError(f"is larger than {SIZE_LIMIT >> 20} MiB", where=str(path))
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InfrastructureError(
            f"is no JSON ({error})", where=str(path), do="run the task that writes it again"
        ) from None


def _rows(document: Any) -> Iterator[Row]:
    if not isinstance(document, dict) or document.get("version") not in VERSIONS:
        return
    kind = VERSIONS[document["version"]]
    for entry in document["rows"]:
        yield Row(
            kind=kind,
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
            cri_ms=entry.get("cri_ms"),
            gate_ms=entry.get("gate_ms"),
            repeat=str(entry["repeat"]),
        )


def _starts(document: Any) -> Iterator[Start]:
    if not isinstance(document, dict) or document.get("version") != STARTS:
        return
    for entry in document["starts"]:
        texts = {name: str(entry[name])[:TEXT_LIMIT] for name in Start.__dataclass_fields__ if name != "node"}
        yield Start(node=str(document["node"]), **texts)


def _verdict(entry: Mapping[str, Any], which: str) -> str:
    allow = entry["allow"][which]
    return f"{'allow' if allow else 'refuse'} {entry['code'][which] or '?'}"


def choices(rows: Sequence[Row], what: str) -> list[str]:
    """Return the values that a column has, for its filter."""
    return sorted({str(getattr(row, what)) for row in rows})
