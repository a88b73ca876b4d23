"""``./inv``: Invoke's program with our tasks built in, and our exit codes."""

from __future__ import annotations

import atexit
import gc
import itertools
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from invoke.collection import Collection
from invoke.exceptions import Exit, ParseError, UnknownFileType
from invoke.parser.argument import Argument
from invoke.program import Program
from invoke.util import yaml  # type: ignore[attr-defined]  # the YAML library that Invoke itself uses

from countersign.console import __version__, output
from countersign.console.config import ROOT
from countersign.console.errors import CountersignError, UsageError
from countersign.console.sources import CONFIG, Sources, nearest
from countersign.console.task import INTERRUPTED, UNEXPECTED, ending

USAGE = 2
_KEPT = {"complete", "config", "help", "list", "print-completion-script", "prompt-for-sudo-password", "version"}
"""Invoke's own options that mean something here. The others steer `context.run`, which hardly anything here uses
(`--dry` would change nodes all the same), or print the whole configuration, passwords too (`--debug`)."""
_UNKNOWN = re.compile(r"No idea what (?P<name>.*) is!", re.DOTALL)
_VALUELESS = re.compile(r"Flag <Option: (?P<name>[\w-]+).*needed value and was not given one!", re.DOTALL)


class Inv(Program):
    """Runs the tasks of this repository, from whatever folder it is called.

    Exit codes: those of the tasks; 2 for a command line or a configuration that cannot be read.
    """

    def __init__(self, namespace: Collection) -> None:
        super().__init__(
            version=__version__, namespace=namespace, name="countersign", binary="./inv", config_class=Sources
        )

    def create_config(self) -> None:
        """Read ``invoke.yaml`` of the repository besides the user's own files."""
        with self._usage(), _reading():
            self.config: Sources = Sources()
            self.config.set_project_location(str(ROOT))
            self.config.load_project()

    def core_args(self) -> list[Argument]:
        """Return Invoke's own options, as far as they mean something here."""
        return [each for each in super().core_args() if each.names[0] in _KEPT]

    def parse_core_args(self) -> None:
        """Parse Invoke's own options; those that cannot be given have their defaults, for Invoke reads them."""
        super().parse_core_args()
        for each in super().core_args():
            if each.names[0] not in _KEPT:
                self.core[0].add_arg(each)

    def parse_core(self, argv: list[str] | None) -> None:
        """Parse Invoke's own options."""
        with self._usage():
            super().parse_core(argv)
        sys.dont_write_bytecode = False  # Invoke's default would compile our modules anew in every run

    def parse_tasks(self) -> None:
        """Parse the tasks and their options."""
        with self._usage():
            super().parse_tasks()

    def parse_cleanup(self) -> None:
        """Answer ``--help``, ``--list`` and the like."""
        with self._usage():
            try:
                super().parse_cleanup()
            except Exit as end:
                if end.message:  # `--list NAMESPACE` that does not exist
                    raise ParseError(_no_namespace(str(self.args.list.value), self.collection)) from end
                raise

    def update_config(self, merge: bool = True) -> None:
        """Read the file of ``--config`` and Invoke's own options into the configuration."""
        with self._usage(), _reading():
            chosen = self.args.config.value
            if chosen is None:
                chosen = os.environ.get(CONFIG)
            if chosen is not None and not Path(chosen).is_file():  # Invoke would go on without it
                raise UsageError("no such file", where=chosen or "''", expected="a configuration like invoke.yaml")
            super().update_config(merge)
            self.config.clone().load_shell_env()  # Invoke reads variables later, when a task is already chosen

    def execute(self) -> None:
        """Run the tasks; those with ``--json`` give one document together."""
        with self._usage(), output.one_document(wanted=_as_json(self.argv)):
            super().execute()

    def display_with_columns(self, pairs: Any, extra: str = "") -> None:
        """Print the task list, with an empty line between namespaces."""
        namespace = None
        for name, about in pairs:
            if namespace not in (None, name.partition(".")[0]):
                print()  # noqa: T201
            namespace = name.partition(".")[0]
            print(f"  {name:<24} {about or ''}".rstrip())  # noqa: T201
        print(f"\n{extra or './inv --help TASK shows its options and an example.'}")  # noqa: T201

    @contextmanager
    def _usage(self) -> Iterator[None]:
        """Give refusals of what was typed or configured our exit code and one line; Ctrl-C outside of a task too."""
        before = output.emitted()

        def end(reason: CountersignError | str, code: int = USAGE) -> Exit:
            return ending(reason, code, as_json=_as_json(self.argv) and output.emitted() == before)

        try:
            yield
        except CountersignError as error:
            raise end(error, error.exit_code) from error
        except ParseError as error:
            raise end(UsageError(self._explained(error))) from error
        except KeyboardInterrupt:
            raise end("interrupted", INTERRUPTED) from None

    def _explained(self, error: ParseError) -> str:
        """Return what Invoke's parser means, with the nearest of what there is."""
        if valueless := _VALUELESS.fullmatch(str(error)):
            return f"--{valueless['name']}: expected a value"
        unknown = _UNKNOWN.fullmatch(str(error))
        if not unknown:
            return str(error)
        name = unknown["name"][1:-1]
        if twice := _given_twice(name, self.argv):
            return f"{twice}: given twice; expected one value"
        if not name.startswith("-"):
            return _no_task(name, list(self.collection.task_names), self.argv)
        task = error.context.name if error.context else None
        flags = [*(error.context.flags if error.context else ()), *self.initial_context.flags]
        near = nearest(name, flags)
        do = f"did you mean {near}?" if near else f"see ./inv --help {task}" if task else "see ./inv --help"
        if name in ("--dry", "-R"):
            do = "give --plan to the task"
        return f"No idea what {name!r} is! There is no such option{f' of {task}' if task else ''}; {do}"


@contextmanager
def _reading() -> Iterator[None]:
    """Turn what goes wrong with files of configuration, and with asking for a password, into our error."""
    try:
        yield
    except OSError as error:
        raise UsageError(error.strerror or str(error), where=str(error.filename or "configuration")) from error
    except (yaml.YAMLError, ValueError, UnknownFileType) as error:
        raise UsageError(str(error), where="configuration") from error
    except EOFError as error:
        raise UsageError("no terminal to ask at", where="--prompt-for-sudo-password") from error


def _as_json(argv: list[str]) -> bool:
    """Return whether a document is asked for, also where that is written as an option with a value."""
    return any(each.partition("=")[0] == "--json" for each in argv)


def _given_twice(value: str, argv: list[str]) -> str:
    """Return the option that was given again with a value that the parser then took for a task; else nothing."""
    flags = [each.partition("=")[0] for each in argv if each.startswith("--")]
    pairs = [*itertools.pairwise(argv)]
    pairs += [(flag, after) for flag, _, after in (each.partition("=") for each in argv)]
    return next((flag for flag, after in pairs if after == value and flags.count(flag) > 1), "")


_NO_NAME = re.compile(r"[/:@=~]|\.(?:ya?ml|json|key|pub|pem|tar|crt)$")


def _no_value(name: str, argv: list[str]) -> str:
    """Return what is wrong with a value that the parser took for a task; nothing if it may be meant as one."""
    flag = next((each.partition("=")[0] for each in argv if each.startswith("--") and each.endswith(f"={name}")), "")
    if flag:
        return f"{flag}: got {name!r}; expected no value"
    if _NO_NAME.search(name) or Path(name).exists():
        return f"No idea what {name!r} is! Tasks take options alone: --OPTION {name} (./inv --help TASK has them)"
    return ""


def _no_task(name: str, tasks: list[str], argv: list[str]) -> str:
    if any(each.startswith(f"{name}.") for each in tasks):
        return f"No idea what {name!r} is! It is a group of tasks; see ./inv --list {name}"
    if value := _no_value(name, argv):
        return value
    near = nearest(name, tasks)
    return f"No idea what {name!r} is! {f'Did you mean {near}?' if near else './inv --list shows all tasks'}"


def _no_namespace(name: str, collection: Collection) -> str:
    near = nearest(name, collection.collections)
    return f"{name!r} not found; {f'did you mean {near}?' if near else './inv --list shows all tasks'}"


def main(tasks: Collection) -> None:
    """Run the command line with these tasks, and exit."""
    # A run loads thousands of objects that live until its end. Looking through them again and again, and once more at
    # exit, costs 30 ms of signing's 350.
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # since tasks.py began
        signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.set_threshold(100_000)
    atexit.register(gc.freeze)
    if sys.stderr is None:  # closed by whoever started us: what goes there must not go elsewhere
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.reconfigure(errors="backslashreplace")
    try:
        Inv(tasks).run()
        if sys.stdout:
            sys.stdout.flush()
    except OSError as error:
        _silent(error)


def _silent(error: OSError) -> NoReturn:
    """End although stdout or stderr takes nothing any more: its reader has gone, or its disk is full."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    if sys.stdout:
        os.dup2(nowhere, sys.stdout.fileno())
    if not isinstance(error, BrokenPipeError):
        os.write(2, f"error: output: {error.strerror}\n".encode())
    os._exit(UNEXPECTED)
