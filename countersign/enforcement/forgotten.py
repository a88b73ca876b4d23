"""The end of a machine over SSH as a place: what this machine keeps about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from countersign.console.config import record_place, recorded_place

if TYPE_CHECKING:
    from countersign.console.config import Settings


@dataclass(frozen=True)
class Forgotten:
    """This machine keeps nothing about another one.

    Attributes:
        settings: the user's.
        kept: files on this machine about the other one.
        room: the runtime whose place it was.
    """

    settings: Settings
    kept: tuple[Path, ...]
    room: str
    name: str = "the place is forgotten"

    def needed(self) -> bool:
        """Return whether anything is kept."""
        return any(path.exists() for path in self.kept) or self._recorded

    def apply(self) -> None:
        """Forget it."""
        for path in self.kept:
            path.unlink(missing_ok=True)
            if path.parent.is_dir() and not any(path.parent.iterdir()):
                path.parent.rmdir()
        if self._recorded:
            record_place(self.settings.state, "", self.room)

    @property
    def _recorded(self) -> bool:
        return recorded_place(self.settings.state, self.room) == self.settings.node
