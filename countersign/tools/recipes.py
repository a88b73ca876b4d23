"""``versions.toml`` as typed values: which tools there are, and how each is had."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

from countersign.console.config import ROOT
from countersign.console.errors import UsageError
from countersign.console.sources import nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

VERSIONS = Path(__file__).resolve().parent / "versions.toml"
FLAGS = ("-trimpath", "-buildvcs=false", "-ldflags=-s -w")
"""What every Go program is built with; a part of each recipe's hash."""

Version: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class OnPath:
    """Which versions of a program on PATH are good.

    Attributes:
        ask: arguments that make it print its version and do nothing else.
        at_least: the oldest good version.
        below: the first one that is too new.
    """

    ask: tuple[str, ...]
    at_least: Version
    below: Version

    def __str__(self) -> str:
        """Return the good versions, as users read them."""
        first, last = (".".join(map(str, each)) for each in (self.at_least, self.below))
        return f"{first} to below {last}"


@dataclass(frozen=True)
class Tool:
    """One program: its name here, its file below the recipe's folder, and when one on PATH serves."""

    name: str
    file: str
    path: OnPath | None = field(repr=False)  # not shown, and so not hashed: it changes nothing that is built


@dataclass(frozen=True)
class Released:
    """Where a recipe's programs are had as they were released, and what says that they are.

    Attributes:
        url: of the folder with a release's files; ``{version}`` stands for its version.
        issuer: who tells the identity that signs a release.
        subject: exactly that identity; ``{version}`` as above.
        tells: the program that prints its name and version when it is run with ``version``.
        hashes: file → SHA-256; a file that is named here needs no signature.
    """

    url: str
    issuer: str
    subject: str
    tells: str
    hashes: Mapping[str, str]


@dataclass(frozen=True)
class Recipe:
    """How one or more tools are built together.

    Attributes:
        name: the table in ``versions.toml``.
        version: the pinned version; empty for source of ours.
        wheel: a distribution on PyPI, unpacked as it is, whose files have one of ``hashes`` (SHA-256).
        module: a Go module; its ``packages`` are installed.
        folder: source of ours, relative to the repository; its ``packages`` are built.
        cgo: needs a C compiler.
        variables: ``package.name=value`` of Go variables that the linker sets.
        platforms: makes an OCI image layout with one image a platform (``linux/amd64``).
        on_demand: set-up does without it.
        deb: a package in Debian's pool, unpacked as it is, whose files have one of ``hashes`` (SHA-256).
        apt: the package that installs it; such a tool is had from PATH alone.
        tools: what comes out.
        released: where ``tools`` are had without building them; None for what we do not release.
    """

    name: str
    tools: tuple[Tool, ...]
    version: str = ""
    wheel: str = ""
    hashes: tuple[str, ...] = ()
    module: str = ""
    folder: str = ""
    packages: tuple[str, ...] = ()
    cgo: bool = False
    tags: str = ""
    variables: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    on_demand: bool = field(default=False, repr=False)
    deb: str = field(default="", repr=False)  # its version and hashes are shown
    apt: str = field(default="", repr=False)  # nothing is built
    released: Released | None = field(default=None, repr=False)  # it changes nothing that is built

    @property
    def title(self) -> str:
        """The recipe's name and version, as users see it."""
        return f"{self.name} {self.version}".strip()

    def key(self) -> str:
        """Return the cache folder's name: the version and a hash of all that the product depends on."""
        digest = hashlib.sha256(repr((FLAGS, self)).encode())
        if self.folder:
            for path in source_files(ROOT / self.folder):
                content = hashlib.sha256(path.read_bytes()).hexdigest()
                digest.update(f"{path.relative_to(ROOT)} {content}\n".encode())
        return "-".join(filter(None, [self.version, digest.hexdigest()[:12]]))


def parse_version(text: str) -> Version:
    """Return ``1.27.3`` as (1, 27, 3)."""
    return tuple(int(part) for part in text.split("."))


def source_files(folder: Path) -> Iterator[Path]:
    """Yield what a build of a Go folder can depend on, in a fixed order: no tests, no hidden files."""
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        left_out = "testdata" in parts or any(part.startswith(".") for part in parts)
        if path.is_file() and not left_out and not path.name.endswith(("_test.go", ".md")):
            yield path


def read_recipes(path: Path) -> dict[str, Recipe]:
    """Return the recipes of a file by name, in the file's order."""
    return {name: _recipe(name, table) for name, table in read_table(path).items()}


def read_table(path: Path) -> dict[str, Any]:
    """Return what a TOML file of ours holds."""
    with path.open("rb") as file:
        return tomllib.load(file)


@cache
def recipes() -> Mapping[str, Recipe]:
    """Return our recipes by name."""
    return read_recipes(VERSIONS)


def lookup(name: str, known: Mapping[str, Recipe] | None = None) -> tuple[Recipe, Tool]:
    """Return the recipe that makes a tool, and the tool.

    Raises:
        UsageError: there is no such tool.
    """
    tools = {tool.name: (recipe, tool) for recipe in (known or recipes()).values() for tool in recipe.tools}
    if name not in tools:
        near = nearest(name, tools)
        raise UsageError("no such tool", where=name, do=f"did you mean {near}?" if near else "see ./inv tools.list")
    return tools[name]


def _recipe(name: str, table: Mapping[str, Any]) -> Recipe:
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
    if "released" in table:
        fields["released"] = Released(**table["released"])
    fields["tools"] = tuple(_tool(tool, entry) for tool, entry in table["tools"].items())
    return Recipe(name=name, **fields)


def _tool(name: str, entry: Mapping[str, Any]) -> Tool:
    path = entry.get("path")
    good = path and OnPath(tuple(path["ask"]), parse_version(path["from"]), parse_version(path["below"]))
    return Tool(name, entry["file"], good or None)
