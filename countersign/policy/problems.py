"""What is wrong with a policy: file, line, key and sentence of each problem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from countersign.console.config import ROOT
from countersign.console.errors import UsageError

Key = tuple[str | int, ...]
"""The way to a value: ``("scopes", "registry.example/app", "anyOf", 0)``."""


def shown(path: Path) -> str:
    """Return a path as people know it: from the repository's root if it lies there."""
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def dotted(key: Key) -> str:
    """Return ``scopes.registry.example/app.anyOf[0]``."""
    text = ""
    for part in key:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


@dataclass(frozen=True)
class Problem:
    """One problem; ``line`` counts from 1, and 0 means the file as a whole."""

    path: Path
    line: int
    key: Key
    text: str

    @property
    def where(self) -> str:
        """``file:line: key``, as far as they are known."""
        place = f"{shown(self.path)}:{self.line}" if self.line else shown(self.path)
        return f"{place}: {dotted(self.key)}" if self.key else place

    def __str__(self) -> str:
        """Return ``file:line: key: text``."""
        return f"{self.where}: {self.text}"


class PolicyInvalid(UsageError):
    """A policy cannot be used; the gate's code for it is POLICY_INVALID."""

    code = "POLICY_INVALID"

    def __init__(self, problems: Sequence[Problem]) -> None:
        more = len(problems) - 1
        do = f"and {more} more: policy.check lists them" if more else ""
        super().__init__(problems[0].text, where=problems[0].where, do=do)
        self.problems = list(problems)
