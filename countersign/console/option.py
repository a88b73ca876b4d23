"""A task's options: long names only, each with a value of their own kind.

Invoke makes a short flag of whatever letter is free, so that ``-p`` is one thing here and another there, and
takes an empty text without a word.
"""

from __future__ import annotations

import re
from typing import Any

from invoke.exceptions import ParseError
from invoke.parser.argument import Argument
from invoke.tasks import Task

_NUMBER = re.compile(r"-?[0-9]{1,9}")


class Option(Argument):
    """An option that takes what can be meant, and refuses the rest with its name."""

    def set_value(self, value: Any, cast: bool = True) -> None:
        """Set the value.

        Raises:
            ParseError: it is empty, no number where one is expected.
        """
        flag = f"--{self.names[0]}"
        if cast and self.takes_value and not str(value).strip():
            raise ParseError(f"{flag}: got an empty value; leave the option out for its default")
        if cast and self.takes_value and "\0" in str(value):
            raise ParseError(f"{flag}: got a value with a null byte")
        if cast and self.kind is int and not _NUMBER.fullmatch(str(value)):
            raise ParseError(f"{flag}: got {value!r}; expected a number")
        super().set_value(value, cast)


class StrictTask(Task[Any]):
    """A task whose options are ``Option``s, none of them with a short flag."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "auto_shortflags": False})

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        """Return the options, in the order of the signature."""
        return [_strict(each) for each in super().get_arguments(ignore_unknown_help)]


def _strict(made: Argument) -> Option:
    return Option(
        names=made.names,
        kind=made.kind,
        default=made.default,
        help=_explained(made),
        positional=False,
        optional=made.optional,
        attr_name=made.attr_name,
    )


def _explained(made: Argument) -> str | None:
    """Return an option's help with its default, where it has one and does not say so itself."""
    said = "default" in (made.help or "") or isinstance(made.default, bool | list)
    return made.help if said or not made.default else f"{made.help} (default: {made.default})"
