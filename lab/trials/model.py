"""The rows of the matrix as data, read from ``matrix.yaml``."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import yaml

from countersign.console.errors import UsageError
from lab.trials.marks import Step, Strict
from lab.trials.rows import OK, Layer, Row, reason_codes

HERE = Path(__file__).resolve().parent

KINDS = ("keyless", "pki", "stamped", "attested", "provenance", "sbom", "notation")
"""Kinds of images that lie together, under a scope of their own: ``cases/KIND/KIND_…``."""
RegistryKind = Literal["referrers", "fallback"]
NameForm = Literal["tag", "digest", "short", "id", "id_prefix"]
FORMATS = ("attachment", "bundle", "cosign2")
"""Words in images' names that say in which format they are signed or attested."""
Each = TypeVar("Each")


class ImageEntry(Strict):
    """One image: what it is, how it is made, and the code it gets under the strict policy."""

    about: str
    code: str
    repository: str = ""
    ways: tuple[str, ...] = ("pull", "import")
    registries: tuple[RegistryKind, ...] = ("referrers",)
    made: tuple[Step, ...] = ()


class RowEntry(Strict):
    """One row that does not follow from ``images`` alone."""

    image: str
    way: str
    code: str
    name: NameForm = "tag"
    registry: RegistryKind = "referrers"
    evidence: bool | None = None


class Matrix(Strict):
    """The whole of ``matrix.yaml``."""

    images: dict[str, ImageEntry]
    rows: list[RowEntry]


@dataclass(frozen=True)
class Case(Row):
    """One row: an image, its way to the node, and what must come out.

    Attributes:
        way: name of its way in (a function of ``ways.py``).
        name: how the image is named when it is started.
        registry: which of the two registries it lies in.
        code: the reason code that must come out.
        layer: the layer that must decide.
        evidence: whether the node has the evidence beforehand; None where it does not matter.
    """

    image: str
    way: str
    name: NameForm
    registry: RegistryKind
    code: str
    layer: Layer
    evidence: bool | None = None

    @property
    def id(self) -> str:
        """The row's name on the command line, ``image/way[/name][/registry]``."""
        parts = [self.image, self.way]
        if self.name != "tag":
            parts.append(self.name)
        if self.registry != "referrers":
            parts.append(self.registry)
        if self.evidence is not None:
            parts.append("evidence" if self.evidence else "no-evidence")
        return "/".join(parts)

    @property
    def shown(self) -> tuple[str, str]:
        """The image, and all that its name says of the way."""
        return self.image, self.id.partition("/")[2]

    @property
    def details(self) -> Mapping[str, str]:
        """How it is named, and where it lies."""
        return {"name": self.name, "registry": self.registry}


def _case(entry: RowEntry) -> Case:
    codes = reason_codes()
    if entry.code not in codes:
        raise UsageError(f"unknown reason code {entry.code!r}", where=f"matrix.yaml: {entry.image}/{entry.way}")
    layer: Layer = "pull" if entry.way == "pull" and not codes[entry.code] else "create"
    return Case(entry.image, entry.way, entry.name, entry.registry, entry.code, layer, entry.evidence)


def load(path: Path = HERE / "matrix.yaml") -> list[Case]:
    """Read the matrix and multiply its images into rows, in the file's order.

    Raises:
        UsageError: a code is not in the closed list, or a row is a duplicate.
    """
    matrix = _read(path)
    entries = [
        RowEntry(image=image, way=way, code=entry.code, registry=registry)
        for image, entry in matrix.images.items()
        for registry in entry.registries
        for way in entry.ways
    ]
    cases = [_case(entry) for entry in [*entries, *matrix.rows]]
    seen: set[str] = set()
    for case in cases:
        if case.id in seen:
            raise UsageError(f"row {case.id} is a duplicate", where=str(path), do="remove one of them")
        seen.add(case.id)
    return cases


def kind_of(image: str) -> str:
    """Return the kind of an image that lies in a scope of its own; empty for one of those signed by key."""
    return next((kind for kind in KINDS if image.startswith(f"{kind}_")), "")


def images(path: Path = HERE / "matrix.yaml") -> Mapping[str, ImageEntry]:
    """Return the images by name, each with its repository's path: ``cases/NAME`` if no other is written."""
    found = _read(path).images.items()
    return {name: entry.model_copy(update={"repository": _repository(name, entry)}) for name, entry in found}


def _repository(name: str, entry: ImageEntry) -> str:
    return entry.repository or "/".join(filter(None, ("cases", kind_of(name), name)))


def _read(path: Path) -> Matrix:
    return Matrix.model_validate(yaml.safe_load(path.read_text()))


def sample(rows: Iterable[Each], shows: Callable[[Each], Iterable[Hashable]]) -> list[Each]:
    """Return the rows that show something which no row before them shows, in their order.

    That is enough for a place that only adds another way to a node; what a verdict is, the whole matrix shows on
    `host`. A Kind node or a machine over SSH has the same gate: what can differ there is how images, policy and hook
    reach it.
    """
    seen: set[Hashable] = set()
    chosen = []
    for row in rows:
        new = set(shows(row)) - seen
        if new:
            chosen.append(row)
            seen |= new
    return chosen


def shows(case: Case) -> Sequence[Hashable]:
    """Return what a row of the matrix shows.

    That is its reason code at its layer, its way with an image that may run or with one that may not, its form of name,
    its registry, whether there was evidence; and, for an image that is signed as it has to be, its root and its format.
    """
    signed = (kind_of(case.image), *(word for word in FORMATS if word in case.image))
    return (
        ("code", case.code, case.layer),
        ("way", case.way, case.allow, case.evidence),
        ("name", case.name),
        ("registry", case.registry),
        *([("signed", *signed)] if case.code == OK else []),
    )
