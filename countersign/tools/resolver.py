"""Where an outside program is: PATH if the version is good, else as released, else the cache, else built into it.

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
from countersign.tools import released
from countersign.tools.build import BuildFailed, Workshop, build
from countersign.tools.progress import Board, board
from countersign.tools.recipes import Recipe, Tool, lookup
from countersign.tools.search_path import on_path

_SIDE_BY_SIDE = 2  # one build links or downloads while the other compiles; more only share the cores
_LOG_END = 15  # lines of a failed build's log that are shown


@dataclass(frozen=True)
class Found:
    """A tool that is there: its file, its version (empty for source of ours); ``PATH``, ``release`` or ``cache``."""

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
    release = released.wanted(recipe, settings)
    if release:
        if path := released.on_path(recipe, release, wanted):
            return Found(path, release.version, "PATH")
        if path := released.kept(settings.cache / recipe.name / release.key(), wanted):
            return Found(path, release.version, "release")
        if release.asked:
            return None
    path = settings.cache / recipe.name / recipe.key() / wanted.file
    return Found(path, recipe.version, "cache") if path.exists() else None


def tool(name: str, settings: Settings) -> Path:
    """Return the path of a tool (for an image: of its OCI layout), built first if need be.

    Raises:
        UsageError: there is no such tool.
        BuildFailed: it could not be built.
        MissingError: it has to be built or taken from a release, or be on PATH, and that is not possible here.
        NotReached, Refused: the release that is wanted is not to be had, or not what it should be (``taking``).
    """
    return install([name], settings)[name]


def install(names: Iterable[str], settings: Settings) -> dict[str, Path]:
    """Return the paths of tools by name; what is not there is built, two recipes side by side.

    Raises:
        UsageError, MissingError, NotReached, Refused: as ``tool`` does, before anything is built.
        BuildFailed, MissingError: as ``tool`` does; other builds are finished first.
    """
    wanted = list(dict.fromkeys(names))
    there = {name: found.path for name in wanted if (found := find(name, settings))}
    missing = {name: lookup(name) for name in wanted if name not in there}
    for recipe, entry in missing.values():
        if recipe.apt:
            raise _not_on_path(recipe, entry)
    if missing:
        wanting = {recipe.name: recipe for recipe, _ in missing.values()}
        with board() as show:
            to_build = {name: recipe for name, recipe in wanting.items() if not _taken(recipe, settings, show)}
            places = _build_all(to_build, settings, show)
        there |= {
            name: places[recipe.name] / entry.file for name, (recipe, entry) in missing.items() if recipe.name in places
        }
        there |= {name: found.path for name in missing.keys() - there.keys() if (found := find(name, settings))}
    return {name: there[name] for name in wanted}


def _not_on_path(recipe: Recipe, tool: Tool) -> MissingError:
    do = f"apt-get install {recipe.apt}"
    found = shutil.which(tool.file)
    if found is None or tool.path is None:
        return MissingError(f"there is no {tool.name}", do=do)
    return MissingError("is of a version that does not serve", where=found, expected=str(tool.path), do=do)


def _taken(recipe: Recipe, settings: Settings, show: Board) -> bool:
    """Say whether a recipe's programs were taken from a release; where that is not so, they are built.

    Raises:
        MissingError: the user asks for a release, and the network may not be used.
        NotReached, Refused, UsageError: as ``taking.take`` does; the first only where the user asks for it.
    """
    from countersign.tools import taking

    if recipe.released is None:
        return False
    release = released.wanted(recipe, settings)
    if release is None:
        if not settings.tools.gate_release:
            output.say(
                f"  {recipe.title} is built: {released.difference(recipe) or 'it is not released for this machine'}"
            )
        return False
    title = f"{recipe.title} v{release.version}"
    if settings.offline and release.asked:
        do = f"repeat without INVOKE_OFFLINE, or {released.OTHERWISE}"
        raise MissingError(f"{title} is not in the cache, and the network may not be used", do=do)
    try:
        if not settings.offline:
            with show.line(f"take {title}"):
                _take_once(recipe, release, settings)
            return True
        why = "the network may not be used"
    except taking.NotReached as err:
        if release.asked:
            raise
        why = f"{err.where}: {err.found}"
    output.say(f"  {recipe.title} is built: the release v{release.version} is not to be had: {why}")
    return False


def _take_once(recipe: Recipe, release: released.Wanted, settings: Settings) -> None:
    """Take a release's programs into the cache, unless another run has done so meanwhile."""
    from countersign.tools.taking import take

    shelf = settings.cache / recipe.name
    place = shelf / release.key()
    with _locked(shelf, settings.cache):
        if all(released.kept(place, tool) for tool in recipe.tools):
            return
        shutil.rmtree(place, ignore_errors=True)  # what is there has changed since it was verified
        with _making(shelf) as making:
            take(recipe, release, making, settings.environment)
            making.rename(place)


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
        log = settings.cache / "log" / f"{recipe.name}.log"
        log.parent.mkdir(exist_ok=True)
        log.write_bytes(b"")
        shop = Workshop(lambda name: _have(name, settings, show), settings.cache, settings.offline, log)
        try:
            with _making(shelf) as making:
                with show.line(f"{'unpack' if recipe.wheel else 'build'} {recipe.title}"):
                    build(recipe, making, shop)
                return making.rename(place)
        except BuildFailed as failure:
            _show_end(failure)
            raise


@contextmanager
def _making(shelf: Path) -> Iterator[Path]:
    """Make a folder for a product that is renamed into place once it is whole; the recipe's lock is held."""
    for left in shelf.glob(".tmp-*"):  # of a run that was killed: the lock says that none is at work
        shutil.rmtree(left)
    making = Path(tempfile.mkdtemp(prefix=".tmp-", dir=shelf))
    try:
        making.chmod(0o755)
        yield making
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
