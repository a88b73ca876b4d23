"""Where an outside program is: PATH if the version is good, else the cache, else built into the cache.

A product is built in a folder of its own and renamed into place, so it is whole or not there.
One lock a recipe makes parallel runs wait for one build. Go's and pip's own caches make a build
that was cut off go on where it was.
"""

from __future__ import annotations

import errno
import fcntl
import shutil
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from countersign.console import output
from countersign.console.config import Settings
from countersign.console.errors import MissingError
from countersign.tools.build import BuildFailed, Workshop, build
from countersign.tools.progress import Board, board
from countersign.tools.recipes import Recipe, lookup
from countersign.tools.search_path import on_path

_SIDE_BY_SIDE = 2  # one build links or downloads while the other compiles; more only share the cores
_LOG_END = 15  # lines of a failed build's log that are shown


@dataclass(frozen=True)
class Found:
    """A tool that is there: its file, its version (empty for source of ours), and ``PATH`` or ``cache``."""

    path: Path
    version: str
    source: str


def find(name: str, settings: Settings) -> Found | None:
    """Return a tool that is there already; builds nothing and uses no network.

    Raises:
        UsageError: there is no such tool.
    """
    recipe, wanted = lookup(name)
    good = on_path(wanted)
    if good:
        return Found(*good, source="PATH")
    path = settings.cache / recipe.name / recipe.key() / wanted.file
    return Found(path, recipe.version, "cache") if path.exists() else None


def tool(name: str, settings: Settings) -> Path:
    """Return the path of a tool (for an image: of its OCI layout), built first if need be.

    Raises:
        UsageError: there is no such tool.
        BuildFailed: it could not be built.
        MissingError: it has to be built, and that is not possible here.
    """
    return install([name], settings)[name]


def install(names: Iterable[str], settings: Settings) -> dict[str, Path]:
    """Return the paths of tools by name; what is not there is built, two recipes side by side.

    Raises:
        UsageError, BuildFailed, MissingError: as ``tool`` does; other builds are finished first.
    """
    wanted = list(dict.fromkeys(names))
    there = {name: found.path for name in wanted if (found := find(name, settings))}
    missing = {name: lookup(name) for name in wanted if name not in there}
    if missing:
        with board() as show:
            places = _build_all({recipe.name: recipe for recipe, _ in missing.values()}, settings, show)
        there |= {name: places[recipe.name] / entry.file for name, (recipe, entry) in missing.items()}
    return {name: there[name] for name in wanted}


def _build_all(missing: dict[str, Recipe], settings: Settings, show: Board) -> dict[str, Path]:
    """Build recipes and return each one's folder, by name."""
    if any(not recipe.wheel for recipe in missing.values()):
        _have("go", settings, show)  # every build needs it: no two of them should wait for it
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        builds = {name: pool.submit(_build_once, recipe, settings, show) for name, recipe in missing.items()}
        try:
            return {name: one.result() for name, one in builds.items()}
        finally:
            pool.shutdown(cancel_futures=True)


def _have(name: str, settings: Settings, show: Board) -> Path:
    """Return a tool that a build needs, in the course of that build."""
    found = find(name, settings)
    if found:
        return found.path
    recipe, wanted = lookup(name)
    return _build_once(recipe, settings, show) / wanted.file


def _build_once(recipe: Recipe, settings: Settings, show: Board) -> Path:
    """Build a recipe, unless another run has done so meanwhile; return its folder in the cache."""
    shelf = settings.cache / recipe.name
    place = shelf / recipe.key()
    with _locked(shelf, settings.cache):
        if place.exists():
            return place
        for left in shelf.glob(".tmp-*"):  # of a run that was killed: the lock says that none is at work
            shutil.rmtree(left)
        log = settings.cache / "log" / f"{recipe.name}.log"
        log.parent.mkdir(exist_ok=True)
        log.write_bytes(b"")
        making = Path(tempfile.mkdtemp(prefix=".tmp-", dir=shelf))
        shop = Workshop(lambda name: _have(name, settings, show), settings.cache, settings.offline, log)
        try:
            with show.line(f"{'unpack' if recipe.wheel else 'build'} {recipe.title}"):
                build(recipe, making, shop)
            making.chmod(0o755)
            return making.rename(place)
        except BuildFailed as failure:
            _show_end(failure)
            raise
        finally:
            shutil.rmtree(making, ignore_errors=True)


@contextmanager
def _locked(shelf: Path, cache: Path) -> Iterator[None]:
    """Hold a recipe's lock; it ends with the process, however that ends.

    Raises:
        MissingError: the cache cannot be written.
    """
    try:
        shelf.mkdir(parents=True, exist_ok=True)
        lock = (shelf / ".lock").open("w")
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise MissingError(str(error), where=str(cache), do="set INVOKE_CACHE to a folder of yours") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _show_end(failure: BuildFailed) -> None:
    with failure.log.open(encoding="utf-8", errors="replace") as log:
        for line in deque(log, maxlen=_LOG_END):
            output.say(f"  | {line.rstrip()}")
