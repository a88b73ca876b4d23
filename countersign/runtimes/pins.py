"""What a node itself needs, by digest: taken once, before enforcement, and kept on this machine."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from countersign.console import output
from countersign.enforcement import policy
from countersign.nodes.host import HOST
from countersign.runtimes.systemd import Taken


@dataclass(frozen=True)
class PinsTaken:
    """The images that a node needs are known by digest; they are never taken again by themselves.

    Attributes:
        path: the file with the pins, on this machine.
        take: asks the node.
        name: what users read.
    """

    path: Path
    take: Callable[[], Taken] = field(repr=False)
    name: str = "images that the machine needs, pinned by digest"

    def needed(self) -> bool:
        """Return whether they were never taken."""
        return not self.path.is_file()

    def apply(self) -> None:
        """Take them, keep them, and show them."""
        keep(self.path, self.take())


def keep(path: Path, taken: Taken) -> None:
    """Write what was taken, and show the pins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if taken.more:
        _write(beside(path), {"pins": list(taken.pins), **taken.more})
    _write(path, list(taken.pins))
    for pin in taken.pins:
        output.say(f"  pinned {pin}")


def read(path: Path) -> Taken | None:
    """Return what an earlier set-up has taken, or None."""
    if not path.is_file():
        return None
    more = beside(path)
    document: dict[str, Any] = json.loads(more.read_text(encoding="utf-8")) if more.is_file() else {}
    document.pop("pins", None)
    return Taken(policy.read_pins(path), document)


def beside(path: Path) -> Path:
    """Return the file with what else was taken: ``crio.json`` beside ``crio-pins.json``."""
    return path.with_name(f"{path.stem.removesuffix('-pins')}.json" if "-" in path.stem else f"{path.stem}-more.json")


def content(document: object) -> bytes:
    """Return a file of pins, or of what else was taken."""
    return (json.dumps(document, indent=2) + "\n").encode()


def _write(path: Path, document: object) -> None:
    HOST.put(content(document), str(path))
