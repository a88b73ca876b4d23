"""Which rows of the matrix a place takes that only adds another way to a node: one for each thing that they show.

What a verdict is, the whole matrix shows on `host`. A Kind node or a machine over SSH has the same gate; what can
differ there is how images, policy and hook reach it, which any row of a code, a way and a signature format shows.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

from lab.trials.model import Case, kind_of
from lab.trials.rows import OK

FORMATS = ("attachment", "bundle", "cosign2")
"""Words in images' names that say in which format they are signed or attested."""
Each = TypeVar("Each")


def sample(rows: Iterable[Each], shows: Callable[[Each], Iterable[Hashable]]) -> list[Each]:
    """Return the rows that show something which no row before them shows, in their order."""
    seen: set[Hashable] = set()
    chosen = []
    for row in rows:
        new = set(shows(row)) - seen
        if new:
            chosen.append(row)
            seen |= new
    return chosen


def shows(case: Case) -> Sequence[Hashable]:
    """Return what a row of the matrix shows.

    That is its reason code at its layer, its way with an image that may run or with one that may not, its form of name,
    its registry, whether there was evidence; and, for an image that is signed as it has to be, its root and its format.
    """
    signed = (kind_of(case.image), *(word for word in FORMATS if word in case.image))
    return (
        ("code", case.code, case.layer),
        ("way", case.way, case.allow, case.evidence),
        ("name", case.name),
        ("registry", case.registry),
        *([("signed", *signed)] if case.code == OK else []),
    )
