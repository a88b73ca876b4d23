"""The reviewed list of images about which an engine may say otherwise than the gate: ``differences.yaml``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from countersign.console.errors import UsageError

FILE = Path(__file__).with_suffix(".yaml")
Engine = Literal["kyverno", "gatekeeper", "crio"]


class _Entry(BaseModel):
    """What the file says.

    Attributes:
        decides: the layer whose verdict holds in the end.
        reason: why the engine cannot say the same.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    engine: Engine
    says: Literal["allow", "refuse"]
    decides: Literal["admission", "pull", "create"]
    reason: str = Field(min_length=1)


class _Written(_Entry):
    """An entry as it is written; ``image``: one name in ``matrix.yaml``, or several."""

    image: str | list[str]


class Difference(_Entry):
    """An entry of one image."""

    image: str


@dataclass
class Differences:
    """The entries, and which of them a run needed."""

    entries: Sequence[Difference]
    _used: set[tuple[str, str]] = field(default_factory=set)

    def excuse(self, image: str, engine: Engine, *, allow: bool) -> Difference | None:
        """Return the entry that lets an engine say this of an image against the gate, and note that it was needed.

        Args:
            image: its name in ``matrix.yaml``.
        """
        for entry in self.entries:
            if (entry.image, entry.engine, entry.says) == (image, engine, "allow" if allow else "refuse"):
                self._used.add((image, engine))
                return entry
        return None

    def unused(self, engine: Engine) -> list[Difference]:
        """Return an engine's entries that no call of ``excuse`` needed; of images that were tried none may be left."""
        return [one for one in self.entries if one.engine == engine and (one.image, engine) not in self._used]


def load(path: Path = FILE) -> Differences:
    """Read the list.

    Raises:
        UsageError: it has not the form of the file's own description, or an image is a duplicate for an engine.
    """
    try:
        written = TypeAdapter(list[_Written]).validate_python(yaml.safe_load(path.read_text(encoding="utf-8")) or [])
    except (yaml.YAMLError, ValidationError) as error:
        raise UsageError(str(error), where=str(path)) from None
    entries = [
        Difference(**one.model_dump(exclude={"image"}), image=image)
        for one in written
        for image in ([one.image] if isinstance(one.image, str) else one.image)
    ]
    pairs = [(entry.image, entry.engine) for entry in entries]
    for image, engine in pairs:
        if pairs.count((image, engine)) > 1:
            raise UsageError(f"{image} is a duplicate for {engine}", where=str(path), do="remove one of them")
    return Differences(entries)
