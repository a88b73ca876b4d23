"""What a look at a node finds amiss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from countersign.console.errors import InfrastructureError


@dataclass(frozen=True)
class Problem:
    """One thing by which an image could run unseen.

    Attributes:
        where: the setting or file.
        found: what it is.
        expected: what it has to be.
        mend: the command that fixes it, where that is not set-up.
        warning: no image runs unseen by it.
    """

    where: str
    found: str
    expected: str
    mend: str = ""
    warning: bool = False

    def __str__(self) -> str:
        """Return all three on one line."""
        return f"{self.where} is {self.found}, expected {self.expected}"


class NotEnforced(InfrastructureError):
    """Something would let images run unseen.

    Attributes:
        problems: all that was found.
    """

    def __init__(self, problems: Sequence[Problem], where: str) -> None:
        super().__init__("; ".join(map(str, problems)), where=where, do="fix it and run set-up again")
        self.problems = tuple(problems)
