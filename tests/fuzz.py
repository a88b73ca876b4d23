"""Every fuzz target of the Go code, one after another, for some seconds each."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from countersign.console import output
from countersign.console.config import ROOT, Settings
from countersign.console.errors import UsageError
from countersign.tools.recipes import recipes
from countersign.tools.resolver import tool
from countersign.tools.toolchain import go_environment
from tests.failures import CheckFailed

_TARGET = re.compile(r"^func (Fuzz\w+)\(", re.MULTILINE)


@dataclass(frozen=True)
class Target:
    """A fuzz target: its function, the folder of its package, and the build tags it needs."""

    name: str
    folder: Path
    tags: str


def targets() -> Iterator[Target]:
    """Yield the fuzz targets of every Go module of ours, in the order of their files."""
    for recipe in {r.folder: r for r in recipes().values() if r.folder}.values():
        for path in sorted((ROOT / recipe.folder).rglob("*_test.go")):
            for name in _TARGET.findall(path.read_text(encoding="utf-8")):
                yield Target(name, path.parent, recipe.tags)


def check(settings: Settings, seconds: str) -> None:
    """Fuzz every target for so many seconds, from its seeds and what earlier runs found.

    Raises:
        UsageError: the seconds are not a number.
        CheckFailed: a target failed; Go has kept the input among the package's seeds.
    """
    if not seconds.isdecimal() or not int(seconds):
        raise UsageError(f"got {seconds!r}", where="tests.fuzz", expected="a number of seconds")
    environment = go_environment(settings.cache, settings.offline)
    del environment["GOTMPDIR"]  # tests put sockets below it, whose paths must be short
    go = tool("go", settings)
    found = [where for target in targets() if (where := _found(target, go, seconds, environment))]
    if found:
        raise CheckFailed("fuzzing found: " + "; ".join(found))


def _found(target: Target, go: Path, seconds: str, environment: dict[str, str]) -> str:
    """Return the target's name if fuzzing it failed, and show how; else an empty text."""
    words = [
        str(go),
        "test",
        f"-tags={target.tags}",
        "-run=^$",
        f"-fuzz=^{target.name}$",
        f"-fuzztime={seconds}s",
        "-fuzzminimizetime=1s",
        ".",
    ]
    name = f"{target.folder.relative_to(ROOT)} {target.name}"
    start = time.monotonic()
    ended = subprocess.run(words, cwd=target.folder, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        output.failed(f"fuzz {name}", time.monotonic() - start)
        output.say(f"  {(ended.stdout + ended.stderr).strip()[-2000:]}")
        return name
    output.done(f"fuzz {name}", time.monotonic() - start)
    return ""
