"""``./inv``: Invoke's program with our tasks built in, and our exit codes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from invoke.collection import Collection
from invoke.config import Config
from invoke.exceptions import Exit, ParseError
from invoke.program import Program
from invoke.util import yaml  # type: ignore[attr-defined]  # the YAML library that Invoke itself uses

from console import __version__
from console.config import ROOT
from console.task import INTERRUPTED, ending

USAGE = 2


class Inv(Program):
    """Runs the tasks of this repository, from whatever folder it is called.

    Exit codes: those of the tasks; 2 for a command line or a configuration that cannot be read.
    """

    def __init__(self, namespace: Collection) -> None:
        super().__init__(version=__version__, namespace=namespace, name="countersign", binary="./inv")

    def create_config(self) -> None:
        """Read ``invoke.yaml`` of the repository besides the user's own files."""
        with _usage():
            self.config: Config = self.config_class()
            self.config.set_project_location(str(ROOT))
            self.config.load_project()

    def parse_core(self, argv: list[str] | None) -> None:
        """Parse Invoke's own options."""
        with _usage():
            super().parse_core(argv)
            if self.args.dry.value:  # it skips `context.run` alone, and so hardly anything here
                raise ParseError("--dry is no dry run here; give --plan to the task")
        sys.dont_write_bytecode = False  # Invoke's default would compile our modules anew in every run

    def parse_tasks(self) -> None:
        """Parse the tasks and their options."""
        with _usage():
            super().parse_tasks()

    def parse_cleanup(self) -> None:
        """Answer ``--help``, ``--list`` and the like."""
        with _usage():
            try:
                super().parse_cleanup()
            except Exit as end:
                if end.message:  # `--list NAMESPACE` that does not exist
                    raise ParseError(end.message) from end
                raise

    def update_config(self, merge: bool = True) -> None:
        """Read the file of ``--config`` and Invoke's own options into the configuration."""
        with _usage():
            chosen = self.args.config.value
            if chosen and not Path(chosen).is_file():  # Invoke would go on without it
                raise ParseError(f"{chosen}: no such file; --config expects a configuration like invoke.yaml")
            super().update_config(merge)

    def execute(self) -> None:
        """Run the tasks."""
        with _usage():
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


def main() -> None:
    """Run the command line and exit."""
    import tasks

    Inv(tasks.ns).run()


@contextmanager
def _usage() -> Iterator[None]:
    """Give Invoke's refusals our exit code and one line; Ctrl-C outside of a task too."""
    try:
        yield
    except (ParseError, yaml.YAMLError) as error:
        raise ending(f"error: {error}", USAGE) from error
    except KeyboardInterrupt:
        raise ending("interrupted", INTERRUPTED) from None
