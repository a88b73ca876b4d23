"""CRI-O's own engine beside the gate: the same images, and the reviewed list of what it may say otherwise."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.trials.native import agrees
from lab.trials.rows import OK, Found, Layer, Outcome, Row

if TYPE_CHECKING:
    from lab.trials.differences import Differences
    from lab.trials.model import Case

OWN, LIBRARY = "own", "library"
"""CRI-O's own engine in a CRI-O that runs, and the same engine as a library."""


@dataclass(frozen=True)
class EngineRow(Row):
    """An image that an engine judges at pull; ``code`` is the gate's.

    Attributes:
        engine: ``own`` or ``library``.
    """

    engine: str
    image: str
    code: str
    way: str = "pull"
    layer: Layer = "pull"

    @property
    def id(self) -> str:
        """Its name on the command line."""
        return f"{self.engine}/{self.image}"


def rows(engine: str, cases: Iterable[Case]) -> list[EngineRow]:
    """Return each image of the matrix once, with the gate's code for it as it is pulled."""
    return [EngineRow(engine, image, code) for image, code in expected(cases).items()]


def expected(cases: Iterable[Case]) -> dict[str, str]:
    """Return image → the code that the gate gives it as it is pulled, in the matrix's order."""
    codes: dict[str, str] = {}
    for case in cases:
        if case.way == "pull":
            codes.setdefault(case.image, case.code)
    return codes


def judge(row: EngineRow, found: Found, known: Differences) -> Outcome:
    """Compare: the engine must allow and refuse as the gate does, for a reason that can stand for the gate's.

    Otherwise ``differences.yaml`` has the image; an entry of it that is contradicted is wrong, too.
    """
    says = f"says {'allow' if found.allow else 'refuse'} {found.code or '?'}"
    entry = known.excuse(row.image, "crio", allow=found.allow)
    if found.allow != row.allow:
        if entry:
            return Outcome(row, found, excused=f"{entry.decides} decides: {entry.reason}")
        return Outcome(row, found, (f"{says}, and differences.yaml has no such entry",))
    if known.excuse(row.image, "crio", allow=not found.allow):
        return Outcome(row, found, (f"{says}, which differences.yaml denies",))
    return Outcome(row, found, () if agrees(found.code, row.code) else (f"{says}, which cannot stand for {row.code}",))


def verdict(message: str | None) -> Found | None:
    """Return what an engine's error stands for, None being none; None for an error that is not a verdict."""
    from lab.trials.native import code_of

    if message is None:
        return Found(True, "pull", OK)
    code = code_of(message)
    return Found(False, "pull", code, message) if code else None
