"""Values of the configuration as they are written in a file or an environment; each raises UsageError with its key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from countersign.console.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
"""The repository: relative paths in the configuration count from here."""
_NUMBER = re.compile(r"[0-9]{1,9}")


def one_of(value: str, where: str, known: tuple[str, ...]) -> str:
    """Return a value that is one of those known."""
    if value not in known:
        raise UsageError(f"got {value!r}", where=where, expected=f"one of {', '.join(known)}")
    return value


def is_number(written: str) -> bool:
    """Return whether a text is a number of a size that can be meant."""
    return bool(_NUMBER.fullmatch(written))


def number(value: object, where: str, least: int) -> int:
    """Return a number that is no smaller than ``least``."""
    written = str(value)
    if not is_number(written) or int(written) < least:
        raise UsageError(f"got {written!r}", where=where, expected=f"a number, {least} or more")
    return int(written)


def path(given: Mapping[str, Any], key: str, default: Any) -> Any:
    """Return the absolute path under ``key``, or the default when it is unset or empty."""
    value = given.get(key)
    if value is None or value == "":
        return default
    if not isinstance(value, str | Path) or "\0" in str(value):
        raise UsageError(f"got {value!r}", where=key, expected="a path, as text")
    try:
        return ROOT / Path(value).expanduser()
    except RuntimeError as error:
        raise UsageError(str(error), where=f"{key}: {value}", do="give an absolute path") from None


def text(given: Mapping[str, Any], key: str, default: str, group: str = "") -> str:
    """Return the text under ``key``, or the default when it is unset or empty."""
    value = given.get(key)
    if value is not None and not isinstance(value, str):
        raise UsageError(f"got {value!r}", where=f"{group}{key}", expected="text (in a file: in quotes)")
    return value or default


def switch(given: Mapping[str, Any], key: str, group: str = "") -> bool:
    """Return a yes/no value; Invoke itself would read ``INVOKE_X=false`` as true."""
    value = given.get(key)
    if value is None or isinstance(value, bool):
        return bool(value)
    written = str(value).strip().lower()
    if written in {"1", "yes", "true", "on"}:
        return True
    if written in {"", "0", "no", "false", "off"}:
        return False
    raise UsageError(f"got {value!r}", where=group + key, expected="yes or no")
