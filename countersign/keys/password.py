"""Where a key's password comes from: a file, a given text, or a person at a terminal; never the command line."""

from __future__ import annotations

import sys
from pathlib import Path

from countersign.console.errors import UsageError

_LIMIT = 4096  # bytes
_SOURCES = "set COSIGN_PASSWORD, or INVOKE_SIGNING_PASSWORD_FILE to a file that has it"


def read_file(path: Path) -> bytes:
    """Return the password in a file: its first line.

    Raises:
        UsageError: if it cannot be read or is longer than 4 KiB.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LIMIT + 1)
    except OSError as err:
        raise UsageError(f"the password cannot be read: {err.strerror}", where=str(path)) from err
    if len(content) > _LIMIT:
        raise UsageError("longer than 4 KiB", where=str(path), expected="a password on one line")
    return content.partition(b"\n")[0].rstrip(b"\r")


def beside(key: Path) -> bytes | None:
    """Return the password in the file that lies beside a key (``NAME.password``); None where there is none."""
    path = key.with_suffix(".password")
    return read_file(path) if path.is_file() else None


def choose(file: Path | None, given: str | None, prompt: str, *, twice: bool = False, sources: str = _SOURCES) -> bytes:
    """Return a password.

    Args:
        file: a file that holds it; goes before all else.
        given: a text that the caller found, such as COSIGN_PASSWORD; may be empty, as with cosign.
        twice: ask a person twice, for a new password.
        sources: where else it may come from, as an imperative.

    Raises:
        UsageError: if there is none and nobody to ask, or the two differ.
    """
    if file is not None:
        return read_file(file)
    if given is not None:
        return given.encode()
    if not sys.stdin.isatty():
        raise UsageError(f"no password for {prompt}, and no terminal to ask at", do=sources)
    import getpass

    first = getpass.getpass(f"Password for {prompt}: ")
    if twice and getpass.getpass("Again: ") != first:
        raise UsageError("the two passwords differ", do="try again")
    return first.encode()
