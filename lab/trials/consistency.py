"""What each engine says of each image, side by side, from the documents of runs.

A cell without a run says so; the library never stands in for a CRI-O.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lab.trials.differences import Differences
    from lab.trials.model import Case

NOT_RUN = "not run"
MATRIX, VERDICTS = "countersign.matrix/v1", "countersign.verdicts/v1"
CONTAINERD, OWN, GATE, LIBRARY = "containerd + gate", "CRI-O's own engine", "CRI-O + gate", "CRI-O's library"
COLUMNS = (CONTAINERD, OWN, GATE, LIBRARY)
_RUNTIMES = {"containerd": CONTAINERD, "crio": GATE}
_ENGINES = {"crio-native": OWN, "crio-library": LIBRARY}
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
    def of_crio(self) -> bool:
        """Whether anything of CRI-O was asked."""
        return any(cell != NOT_RUN for row in self.rows for cell in row.cells[1:])

    def as_json(self) -> dict[str, Any]:
        """Return the document ``countersign.consistency/v1``."""
        rows = [asdict(row) | {"cells": dict(zip(self.columns, row.cells, strict=True))} for row in self.rows]
        return {"version": "countersign.consistency/v1", "rows": rows, "problems": self.problems}


def compare(
    documents: Iterable[Any], cases: Sequence[Case] | None = None, known: Differences | None = None
) -> Consistency:
    """Return the table and what is wrong in it.

    The gate must say what the matrix says, code and all. CRI-O's engine and its library must allow and refuse as
    the gate does, for a reason that can stand for the gate's (``lab.trials.native.MEANS``), or
    ``differences.yaml`` has the image; an entry of it that a run contradicts is wrong, too.

    Args:
        documents: ``countersign.matrix/v1`` and ``countersign.verdicts/v1``; others are left alone.
        cases: the matrix (default: ours); its images as they are pulled are compared.
        known: the reviewed differences (default: ours).
    """
    from lab.trials import differences, model

    seen = _collect(documents)
    known = differences.load() if known is None else known
    expected: dict[str, Verdict] = {}
    for case in model.load() if cases is None else cases:
        if case.way == "pull":
            expected.setdefault(case.image, (case.allow, case.code))
    return Consistency(tuple(_row(image, verdict, seen, known) for image, verdict in expected.items()))


def _collect(documents: Iterable[Any]) -> dict[tuple[str, str], list[Verdict]]:
    """Return column and image → the different verdicts of all runs."""
    seen: dict[tuple[str, str], list[Verdict]] = {}
    for document in documents:
        if not isinstance(document, dict):
            continue
        for key, verdict in _said(document):
            found = seen.setdefault(key, [])
            if verdict not in found:
                found.append(verdict)
    return seen


def _said(document: Mapping[str, Any]) -> list[tuple[tuple[str, str], Verdict]]:
    if document.get("version") == MATRIX and document["runtime"] in _RUNTIMES:
        column = _RUNTIMES[document["runtime"]]
        pulled = [row for row in document["rows"] if row["way"] == "pull"]
        return [((column, row["image"]), (row["allow"]["actual"], row["code"]["actual"])) for row in pulled]
    if document.get("version") == VERDICTS and document["engine"] in _ENGINES:
        column = _ENGINES[document["engine"]]
        return [((column, image), (said["allow"], said["code"])) for image, said in document["images"].items()]
    return []


def _row(image: str, expected: Verdict, seen: Mapping[tuple[str, str], Sequence[Verdict]], known: Differences) -> Row:
    from lab.trials.native import agrees

    problems: list[str] = []
    reason = ""
    for column in COLUMNS:
        for verdict in seen.get((column, image), ()):
            if column in (CONTAINERD, GATE):
                if verdict != expected:
                    problems.append(f"{column} says {_words(verdict)}, expected {_words(expected)}")
                continue
            if verdict[0] == expected[0]:
                if known.excuse(image, "crio", allow=not verdict[0]):
                    problems.append(f"{column} says {_words(verdict)}, which differences.yaml denies")
                elif not agrees(verdict[1], expected[1]):
                    problems.append(f"{column} says {_words(verdict)}, which cannot stand for {expected[1]}")
                continue
            entry = known.excuse(image, "crio", allow=verdict[0])
            if entry is None:
                problems.append(f"{column} says {_words(verdict)}, and differences.yaml has no such entry")
            else:
                reason = f"{entry.decides} decides: {entry.reason}"
    cells = (" / ".join(map(_words, seen.get((column, image), ()))) or NOT_RUN for column in COLUMNS)
    return Row(image, tuple(cells), tuple(problems), reason)


def _words(verdict: Verdict) -> str:
    return f"{'allow' if verdict[0] else 'refuse'} {verdict[1] or '?'}"
