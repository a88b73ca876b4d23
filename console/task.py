"""``@task``: Invoke's own, with our errors turned into one line and an exit code."""

from __future__ import annotations

import functools
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, overload

from invoke.context import Context
from invoke.exceptions import Exit, Failure
from invoke.tasks import task as invoke_task

from console import clean
from console.config import settings_from
from console.errors import CountersignError

Body = TypeVar("Body", bound=Callable[..., Any])
INTERRUPTED = 130
UNEXPECTED = 4


@overload
def task(body: Body) -> Body: ...
@overload
def task(**options: Any) -> Callable[[Body], Body]: ...
def task(body: Body | None = None, **options: Any) -> Any:
    """Make a function an Invoke task, with or without options (``@task``, ``@task(iterable=…)``).

    The function's docstring is the help text. What it raises ends the run: a
    ``CountersignError`` with its own exit code, Ctrl-C with 130, a failed child or anything
    unforeseen with 4 and a log that holds the traceback.
    """
    if body is None:
        return lambda function: task(function, **options)
    return invoke_task(_guarded(body), **options)


def _guarded(body: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(body)
    def run(context: Context, *args: Any, **kwargs: Any) -> Any:
        try:
            return body(context, *args, **kwargs)
        except Exit:
            raise
        except CountersignError as error:
            raise ending(f"error: {error}", error.exit_code) from error
        except KeyboardInterrupt:
            raise ending("interrupted", INTERRUPTED) from None
        except BrokenPipeError:  # the reader of our stdout (head, a pager) has gone
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise Exit(code=UNEXPECTED) from None
        except Failure as error:
            raise ending(_child(error), UNEXPECTED) from error
        except Exception as error:
            raise ending(_unexpected(context, error), UNEXPECTED) from error

    return run


def ending(text: str, code: int) -> Exit:
    """Return what ends the program with one line, cleaned, on stderr."""
    return Exit(clean.line(" ".join(text.split())), code=code)


def _child(error: Failure) -> str:
    """Return a line about a failed command; its own exit code must not become ours."""
    return f"error: {error.result.command!r} failed with {error.result.exited}"


def _unexpected(context: Context, error: Exception) -> str:
    log = _log_folder(context) / f"unexpected-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.log"
    with log.open("w", encoding="utf-8") as file:
        file.write(f"{sys.argv}\n")
        traceback.print_exception(error, file=file)
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return f"error: unexpected {text}; the traceback is in {log}"


def _log_folder(context: Context) -> Path:
    """Return ``<state>/log``, or a fresh temporary folder when that cannot be had."""
    try:
        folder = settings_from(context).state / "log"
        folder.mkdir(parents=True, exist_ok=True)
    except (CountersignError, OSError):
        return Path(tempfile.mkdtemp(prefix="countersign-"))
    return folder
