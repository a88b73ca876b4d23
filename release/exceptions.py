"""Vulnerabilities that a release may have: each with a reason, and a last day on which it may."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from countersign.policy import document
from countersign.policy.problems import Problem
from release.load import ReleaseInvalid

_ID = re.compile(r"(GO|CVE)-[0-9]{4}-[0-9]{4,9}|GHSA(-[0-9a-z]{4}){3}|(DSA|RHSA|ALAS|ELSA)[0-9A-Z:-]{4,30}")
_SUCH = "such as GO-2026-1234, CVE-2026-12345 or GHSA-xxxx-xxxx-xxxx"
_LEAST = 10  # characters of a reason
_LONGEST = dt.timedelta(days=366)


@dataclass(frozen=True)
class Excepted:
    """One exception.

    Attributes:
        id: of the vulnerability (``GO-2026-1234``), by any of its names.
        reason: why the release may have it.
        until: the last day on which it holds.
    """

    id: str
    reason: str
    until: dt.date

    def expired(self, today: dt.date) -> bool:
        """Say whether it holds no more."""
        return today > self.until


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    id: str
    reason: str
    until: dt.date


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    api_version: str = Field(alias="apiVersion", pattern=r"^countersign\.exceptions/v1$")
    exceptions: list[_Entry]


def load(path: Path, today: dt.date) -> Mapping[str, Excepted]:
    """Read the exceptions of a project.

    Args:
        path: the file.
        today: an exception may end a year from now at the latest: whoever wants more looks again.

    Raises:
        ReleaseInvalid: with everything that is wrong.
    """
    source = document.read(path)
    try:
        found = _File.model_validate(source.value)
    except ValidationError as err:
        problems = [source.problem(each["loc"], each["msg"]) for each in err.errors(include_url=False)]
        raise ReleaseInvalid(problems) from err
    wrong: list[Problem] = []
    for index, each in enumerate(found.exceptions):
        key = ("exceptions", index)
        if not _ID.fullmatch(each.id):
            wrong.append(source.problem((*key, "id"), f"got {each.id!r}; expected an ID {_SUCH}"))
        if len(each.reason.strip()) < _LEAST:
            wrong.append(source.problem((*key, "reason"), f"got {each.reason!r}; expected why it does no harm here"))
        if each.until > today + _LONGEST:
            wrong.append(source.problem((*key, "until"), f"got {each.until}; expected a day within a year"))
        if each.id in {other.id for other in found.exceptions[:index]}:
            wrong.append(source.problem((*key, "id"), f"{each.id} stands here again"))
    if wrong:
        raise ReleaseInvalid(wrong)
    return {each.id: Excepted(each.id, each.reason, each.until) for each in found.exceptions}
