"""The public bypass suite (``bypass/attacks.yaml``): attacks as rows of the matrix and of the pods' scenarios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict

from countersign.console.errors import UsageError
from lab.trials import model
from lab.trials.pods import model as pods
from lab.trials.rows import Row, Series

FILE = Path(__file__).resolve().parents[2] / "bypass" / "attacks.yaml"


class Attack(BaseModel):
    """One row of the suite.

    Attributes:
        about: what is done, in words.
        row: the row that has to be refused.
        twin: the row that differs in one thing, and has to run.
        known: why countersign itself lets it through; empty where it does not.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    about: str
    row: str
    twin: str
    known: str = ""


class Honest(BaseModel):
    """What is not an attack and has to run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    about: str
    row: str


class Suite(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    attacks: tuple[Attack, ...]
    honest: tuple[Honest, ...]

    @property
    def rows(self) -> list[str]:
        """The names of all rows that the suite needs, each once."""
        attacks = [name for each in self.attacks for name in (each.row, each.twin)]
        return list(dict.fromkeys([*attacks, *(each.row for each in self.honest)]))


def load(path: Path = FILE) -> Suite:
    """Read the suite, and hold it against the rows that there are.

    Raises:
        UsageError: a row is not there; one that has to run is refused, or the other way round; a name stands twice.
    """
    suite = Suite.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    known = known_rows()
    wanted = [(each.name, each.row, bool(each.known)) for each in suite.attacks]
    wanted += [(each.name, each.twin, True) for each in suite.attacks]
    wanted += [(each.name, each.row, True) for each in suite.honest]
    for name, row, allow in wanted:
        if row not in known:
            raise UsageError(f"there is no row {row!r}", where=f"{path.name}: {name}", do="see lab/trials/matrix.yaml")
        if known[row].allow != allow:
            raise UsageError(f"{row} is {known[row].code}", where=f"{path.name}: {name}", expected="the other verdict")
    names = [name for name, *_ in wanted[: len(suite.attacks)]] + [each.name for each in suite.honest]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"{twice[0]} stands twice", where=path.name, do="name each row of its own")
    return suite


def known_rows() -> Mapping[str, Row]:
    """Return every row that the suite may name, by its name."""
    return {row.id: row for row in [*model.load(), *pods.load()]}


def of(series: Sequence[Series], suite: Suite) -> list[Series]:
    """Return the series with only the suite's rows, those that have some; each row as its runtime says it."""
    wanted = set(suite.rows)
    chosen = [
        replace(
            each,
            kind=f"bypass-{each.kind}",
            rows=[row for row in each.rows if row.id in wanted],
            command="./inv bypass.test",
            sample=list,
        )
        for each in series
    ]
    return [each for each in chosen if each.rows]
