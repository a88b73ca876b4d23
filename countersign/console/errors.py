"""The errors a user may see, each with the exit code of its kind."""

from __future__ import annotations

import re

_NUMBER = re.compile(r"\[Errno [^\]]*\] ")


class CountersignError(Exception):
    """An error that explains itself to a user in one line.

    Args:
        found: what was found ("got X"), without a full stop.
        where: the place it was found in (a file with line and key, a host, a reference).
        expected: what was expected instead.
        do: what the user can do, as an imperative or a command.

    Attributes:
        exit_code: what the process exits with when this error ends a task.
    """

    exit_code = 4

    def __init__(self, found: str, *, where: str = "", expected: str = "", do: str = "") -> None:
        super().__init__(found)
        self.found = found
        self.where = where
        self.expected = expected
        self.do = do

    def __str__(self) -> str:
        """Return ``where: found; expected …; do``, on one line."""
        text = f"{self.where}: {self.found}" if self.where else self.found
        if self.expected:
            text += f"; expected {self.expected}"
        if self.do:
            text += f"; {self.do}"
        return " ".join(text.split())


class VerdictError(CountersignError):
    """A verdict was not the expected one."""

    exit_code = 1


class UsageError(CountersignError):
    """The user's input cannot be used as it stands."""

    exit_code = 2


class MissingError(CountersignError):
    """This machine lacks something; ``do`` names the command that brings it."""

    exit_code = 3


class InfrastructureError(CountersignError):
    """A runtime, registry, node or build failed."""

    exit_code = 4


def cause(error: object) -> str:
    """Return what the system says is wrong, in its words alone: ``[Errno 111]`` means nothing to a user."""
    return _NUMBER.sub("", str(error))
