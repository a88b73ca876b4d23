"""What each engine says of each image, side by side, from the documents of runs.

A cell without a run says so; the library never stands in for a CRI-O.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lab.trials import engines
from lab.trials.document import VERSION, verdict
from lab.trials.rows import Found

if TYPE_CHECKING:
    from lab.trials.differences import Differences, Engine
    from lab.trials.model import Case

NOT_RUN = "not run"
CONTAINERD, OWN, GATE, LIBRARY = "containerd + gate", "CRI-O's own engine", "CRI-O + gate", "CRI-O's library"
KYVERNO, GATEKEEPER = "Kyverno", "Gatekeeper"
COLUMNS = (CONTAINERD, OWN, GATE, LIBRARY, KYVERNO, GATEKEEPER)
_COLUMN_OF = {
    ("matrix", "containerd"): CONTAINERD,
    ("matrix", "crio"): GATE,
    (engines.OWN, "crio"): OWN,
    (engines.LIBRARY, "crio"): LIBRARY,
    ("admission", "containerd"): KYVERNO,
    ("admission-gatekeeper", "containerd"): GATEKEEPER,
}
"""Kind and runtime of a document → whose verdicts it has."""
_ENGINE_OF: Mapping[str, Engine] = {OWN: "crio", LIBRARY: "crio", KYVERNO: "kyverno", GATEKEEPER: "gatekeeper"}
"""Column → by whose entries of ``differences.yaml`` it is judged; the gate has none."""
Verdict = tuple[bool, str]


@dataclass(frozen=True)
class Row:
    """One image.

    Attributes:
        image: its name in ``matrix.yaml``.
        cells: what each engine says, in the order of ``COLUMNS``.
        problems: what nobody has reviewed.
        reason: why an engine may say otherwise, if one does.
    """

    image: str
    cells: tuple[str, ...]
    problems: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Consistency:
    """The table."""

    rows: tuple[Row, ...]
    columns: tuple[str, ...] = COLUMNS

    @property
    def problems(self) -> list[str]:
        """What nobody has reviewed, image by image."""
        return [f"{row.image}: {problem}" for row in self.rows for problem in row.problems]

    @property
    def of_others(self) -> bool:
        """Whether any but containerd's gate was asked."""
        return any(cell != NOT_RUN for row in self.rows for cell in row.cells[1:])

    def as_json(self) -> dict[str, Any]:
        """Return the document ``countersign.consistency/v1``."""
        rows = [asdict(row) | {"cells": dict(zip(self.columns, row.cells, strict=True))} for row in self.rows]
        return {"version": "countersign.consistency/v1", "rows": rows, "problems": self.problems}


def compare(
    documents: Iterable[Any], cases: Sequence[Case] | None = None, known: Differences | None = None
) -> Consistency:
    """Return the table and what is wrong in it.

    The gate must say what the matrix says, code and all. CRI-O's engine and its library, Kyverno and Gatekeeper must
    allow and refuse as the gate does, or ``differences.yaml`` has the image. Those of CRI-O must do it for a reason
    that can stand for the gate's (``lab.trials.engines.judge``); what is refused at admission is told in other words.

    Args:
        documents: ``countersign.trials/v1``; others are left alone.
        cases: the matrix (default: ours); its images as they are pulled are compared.
        known: the reviewed differences (default: ours).
    """
    from lab.trials import differences, model

    seen = _collect(documents)
    known = differences.load() if known is None else known
    rows = engines.rows("", model.load() if cases is None else cases)
    return Consistency(tuple(_row(row, seen, known) for row in rows))


def _collect(documents: Iterable[Any]) -> dict[tuple[str, str], list[Verdict]]:
    """Return column and image → the different verdicts of all runs."""
    seen: dict[tuple[str, str], list[Verdict]] = {}
    for document in documents:
        if not isinstance(document, dict):
            continue
        for key, said in _said(document):
            found = seen.setdefault(key, [])
            if said not in found:
                found.append(said)
    return seen


def _said(document: Mapping[str, Any]) -> list[tuple[tuple[str, str], Verdict]]:
    column = _COLUMN_OF.get((document.get("kind", ""), document.get("runtime", "")))
    if document.get("version") != VERSION or not column:
        return []
    pulled = [row for row in document["rows"] if row["way"] in {"pull", f"{column} on"}]
    return [((column, row["image"]), (row["allow"]["actual"], row["code"]["actual"])) for row in pulled]


def _row(row: engines.EngineRow, seen: Mapping[tuple[str, str], Sequence[Verdict]], known: Differences) -> Row:
    problems: list[str] = []
    reason = ""
    for column in COLUMNS:
        for said in seen.get((column, row.image), ()):
            if column in (CONTAINERD, GATE):
                if said != (row.allow, row.code):
                    problems.append(f"{column} says {verdict(*said)}, expected {verdict(row.allow, row.code)}")
                continue
            outcome = engines.judge(row, Found(said[0], code=said[1]), known, _ENGINE_OF[column])
            problems += [f"{column} {difference}" for difference in outcome.differences]
            reason = outcome.excused or reason
    cells = (" / ".join(verdict(*said) for said in seen.get((column, row.image), ())) or NOT_RUN for column in COLUMNS)
    return Row(row.image, tuple(cells), tuple(problems), reason)
