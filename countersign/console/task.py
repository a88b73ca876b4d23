"""``@task``: Invoke's own, with our errors turned into one line and an exit code."""

from __future__ import annotations

import errno
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

from countersign.console import clean, output
from countersign.console.config import settings_from
from countersign.console.errors import CountersignError, InfrastructureError
from countersign.console.option import StrictTask

Body = TypeVar("Body", bound=Callable[..., Any])
INTERRUPTED = 130
UNEXPECTED = 4
_FILES = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there",
    errno.EROFS: "choose a folder that can be written (INVOKE_STATE, INVOKE_CACHE)",
    errno.EACCES: "choose a folder of yours (INVOKE_STATE, INVOKE_CACHE), or run as root",
    errno.EPERM: "choose a folder of yours (INVOKE_STATE, INVOKE_CACHE), or run as root",
    errno.ENOTDIR: "a folder is expected there",
    errno.EEXIST: "move away what is there",
    errno.EISDIR: "a file is expected there",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "its symbolic links lead in a circle",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.EIO: "the disk may be broken",
}
"""What is wrong with a file, folder or disk, rather than with us → what helps."""


@overload
def task(body: Body) -> Body: ...
@overload
def task(**options: Any) -> Callable[[Body], Body]: ...
def task(body: Body | None = None, **options: Any) -> Any:
    """Make a function an Invoke task, with or without options (``@task``, ``@task(iterable=…)``).

    The function's docstring is the help text. What it raises ends the run: a
    ``CountersignError`` with its own exit code, Ctrl-C with 130, a file or disk that cannot be used with 4, a failed
    child or anything unforeseen with 4 and a log that holds the traceback. With ``--json`` there is one document on
    stdout whatever happens: what the task emits, else ``countersign.error/v1``.
    """
    if body is None:
        return lambda function: task(function, **options)
    return invoke_task(_guarded(body), klass=StrictTask, **options)


def _guarded(body: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(body)
    def run(context: Context, *args: Any, **kwargs: Any) -> Any:
        as_json = bool(kwargs.get("json"))
        before = output.emitted()

        def end(reason: CountersignError | str, code: int) -> Exit:
            return ending(reason, code, as_json=as_json and output.emitted() == before)

        try:
            with output.one_document(wanted=as_json):
                return body(context, *args, **kwargs)
        except Exit:
            raise
        except CountersignError as error:
            raise end(error, error.exit_code) from error
        except KeyboardInterrupt:
            raise end("interrupted", INTERRUPTED) from None
        except BrokenPipeError:  # the reader of our stdout (head, a pager) has gone
            if sys.stdout:
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise Exit(code=UNEXPECTED) from None
        except Failure as error:
            raise end(_child(error), UNEXPECTED) from error
        except Exception as error:
            raise end(_of_files(error) or _unexpected(context, error), UNEXPECTED) from error

    return run


def ending(reason: CountersignError | str, code: int, *, as_json: bool = False) -> Exit:
    """Return what ends the program with one line, cleaned, on stderr.

    Args:
        as_json: a document is due on stdout, and nothing has been emitted.
    """
    if as_json:
        found = reason if isinstance(reason, CountersignError) else CountersignError(reason)
        error = {"found": found.found, "where": found.where, "expected": found.expected, "do": found.do}
        output.emit_json({"version": "countersign.error/v1", "exitCode": code, "message": str(found), **error})
    text = f"error: {reason}" if isinstance(reason, CountersignError) else reason
    return Exit(clean.line(" ".join(text.split())), code=code)


def _child(error: Failure) -> InfrastructureError:
    """Return a line about a failed command; its own exit code must not become ours."""
    return InfrastructureError(f"{error.result.command!r} failed with {error.result.exited}")


def _of_files(error: BaseException | None) -> InfrastructureError | None:
    """Return what to say of a file, folder or disk that cannot be used; None if that was not the cause."""
    while error:
        if isinstance(error, OSError) and error.errno in _FILES:
            names = " → ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
            return InfrastructureError(error.strerror or str(error), where=names, do=_FILES[error.errno])
        error = error.__cause__
    return None


def _unexpected(context: Context, error: Exception) -> InfrastructureError:
    text = " ".join(f"{type(error).__name__}: {error}".split())
    try:
        log = _log_folder(context) / f"unexpected-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.log"
        with log.open("w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{sys.argv}\n")
            traceback.print_exception(error, file=file)
    except OSError as unwritten:
        return InfrastructureError(f"unexpected {text}; its traceback could not be kept: {unwritten.strerror}")
    return InfrastructureError(f"unexpected {text}; the traceback is in {log}")


def _log_folder(context: Context) -> Path:
    """Return ``<state>/log``, or a fresh temporary folder when that cannot be had."""
    try:
        folder = settings_from(context).state / "log"
        folder.mkdir(parents=True, exist_ok=True)
    except (CountersignError, OSError):
        return Path(tempfile.mkdtemp(prefix="countersign-"))
    return folder
