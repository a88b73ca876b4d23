"""One function a kind of recipe; each fills an empty folder or raises."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from countersign.console.config import ROOT
from countersign.console.errors import InfrastructureError, MissingError
from countersign.oci.build import write_layout
from countersign.tools.recipes import Recipe
from countersign.tools.toolchain import c_compiler, go_environment, go_flags

_FULL = "No space left on device"
_CAUSES = re.compile(
    rf"{_FULL}|Disk quota exceeded|Read-only file system|Permission denied|Too many open files|Cannot allocate memory"
    r"|out of memory|signal: killed|Temporary failure in name resolution|no such host|Connection refused"
    r"|connection refused|[Cc]onnection timed out|i/o timeout|certificate verify failed"
    r"|certificate signed by unknown authority|HASHES DO NOT MATCH|checksum mismatch"
    r"|No matching distribution found for \S+"
)
"""What pip, go and compilers call the causes that are of the machine or its network."""
_READ = 1 << 20


def cause_in(log: Path) -> str:
    """Return the cause that the end of a build's output names last; empty if it names none."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _READ))
        found = _CAUSES.findall(file.read().decode(errors="replace"))
    return str(found[-1]) if found else ""


class BuildFailed(InfrastructureError):
    """A command of a build failed; its output is in ``log``."""

    def __init__(self, command: Sequence[str | Path], status: int, log: Path, offline: bool) -> None:
        do = "the network may not be used: repeat without INVOKE_OFFLINE" if offline else "repeating goes on from here"
        cause = cause_in(log)
        verb = command[2] if command[1] == "-m" else command[1]  # `python -m pip` is pip
        what = f"{Path(command[0]).name} {verb} failed with {status}"
        super().__init__(
            f"{what}: {cause}" if cause else what, where=str(log), do="make room there" if _FULL in cause else do
        )
        self.log = log


@dataclass(frozen=True)
class Workshop:
    """What a build works with.

    Attributes:
        have: returns the path of another tool (``go``, ``zig``), building it first if need be.
        cache: where compilers may keep what they can use again.
        offline: the network must not be used.
        log: takes the output of every command.
    """

    have: Callable[[str], Path]
    cache: Path
    offline: bool
    log: Path

    def run(self, command: Sequence[str | Path], cwd: Path, environment: Mapping[str, str] | None = None) -> None:
        """Run a command of a build.

        Raises:
            BuildFailed: it did not exit with 0.
        """
        with self.log.open("ab") as log:
            log.write(f"$ {subprocess.list2cmdline([str(part) for part in command])}\n".encode())
            log.flush()
            status = subprocess.run(
                command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False
            ).returncode
        if status:
            raise BuildFailed(command, status, self.log, self.offline)


def build(recipe: Recipe, into: Path, shop: Workshop) -> None:
    """Make a recipe's product in the empty folder ``into``.

    Raises:
        BuildFailed: a command failed.
        MissingError: the network is needed and may not be used.
    """
    if recipe.wheel:
        _unpack_wheel(recipe, into, shop)
    elif recipe.deb:
        _unpack_package(recipe, into, shop)
    elif recipe.module:
        _install_module(recipe, into, shop)
    elif recipe.platforms:
        _build_image(recipe, into, shop)
    else:
        _build_folder(recipe, into, shop)


def _need_network(recipe: Recipe, shop: Workshop) -> None:
    if shop.offline:
        raise MissingError(
            f"{recipe.title} is not in the cache, and the network may not be used",
            do=f"run `./inv tools.install --name {recipe.tools[0].name}` without INVOKE_OFFLINE",
        )


def _unpack_package(recipe: Recipe, into: Path, shop: Workshop) -> None:
    from countersign.tools import debian

    _need_network(recipe, shop)
    debian.unpack(recipe, into, shop.run)


def _unpack_wheel(recipe: Recipe, into: Path, shop: Workshop) -> None:
    _need_network(recipe, shop)
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as wanted:
        hashes = " ".join(f"--hash=sha256:{value}" for value in recipe.hashes)
        wanted.write(f"{recipe.wheel}=={recipe.version} {hashes}\n")
        wanted.flush()
        options = ["--no-deps", "--require-hashes", "--only-binary=:all:", "--no-compile", "--no-input"]
        pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", *options]
        shop.run([*pip, "--target", into, "-r", wanted.name], cwd=into)


def _install_module(recipe: Recipe, into: Path, shop: Workshop) -> None:
    environment = go_environment(shop.cache, shop.offline) | {"GOBIN": str(into)}
    compiler = None
    if recipe.cgo:
        compiler = c_compiler(shop.have, shop.cache)
        environment |= compiler.environment | {"CGO_ENABLED": "1"}
    packages = [f"{recipe.module}/{package}".removesuffix("/.") + f"@v{recipe.version}" for package in recipe.packages]
    command: list[str | Path] = [shop.have("go"), "install", *go_flags(recipe, compiler), *packages]
    shop.run(command, cwd=into, environment=environment)


def _build_folder(recipe: Recipe, into: Path, shop: Workshop, goarch: str = "") -> None:
    environment = go_environment(shop.cache, shop.offline)
    if goarch:
        environment["GOARCH"] = goarch
    command: list[str | Path] = [shop.have("go"), "build", *go_flags(recipe), "-o", f"{into}/", *recipe.packages]
    shop.run(command, cwd=ROOT / recipe.folder, environment=environment)


def _build_image(recipe: Recipe, into: Path, shop: Workshop) -> None:
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=into.parent) as scratch:
        programs = {}
        for platform in recipe.platforms:
            architecture = platform.partition("/")[2]
            folder = Path(scratch, architecture)
            folder.mkdir()
            _build_folder(recipe, folder, shop, architecture)
            programs[platform] = folder / recipe.name
        write_layout(into, recipe.name, programs)
