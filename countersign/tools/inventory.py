"""What ``tools.list`` shows, as data."""

from __future__ import annotations

from dataclasses import dataclass

from countersign.console.config import Settings
from countersign.tools import released
from countersign.tools.recipes import OnPath, Recipe, recipes
from countersign.tools.resolver import Found, find


@dataclass(frozen=True)
class Row:
    """A tool: its name, the versions that serve, what is there, and what is said of one that is not there."""

    name: str
    wanted: str
    found: Found | None
    absent: str

    def cells(self) -> tuple[str, str, str, str]:
        """Return the row for a table."""
        if self.found is None:
            return self.name, self.wanted, self.absent, ""
        return self.name, self.wanted, str(self.found.path), self.found.version

    def document(self) -> dict[str, str | None]:
        """Return the row for JSON; ``path``, ``source`` and ``version`` are null where there is nothing."""
        found = self.found
        return {
            "name": self.name,
            "wanted": self.wanted,
            "path": str(found.path) if found else None,
            "source": found.source if found else None,
            "version": found.version if found else None,
        }


def inventory(settings: Settings) -> list[Row]:
    """Return a row for every tool, in the order of ``versions.toml``."""
    return [
        Row(tool.name, _wanted(recipe, tool.path, settings), find(tool.name, settings), _absent(recipe))
        for recipe in recipes().values()
        for tool in recipe.tools
    ]


def _absent(recipe: Recipe) -> str:
    return f"not on PATH: apt-get install {recipe.apt}" if recipe.apt else "not built yet"


def usual_tools() -> list[str]:
    """Return the names of the tools that set-up needs."""
    return [tool.name for recipe in recipes().values() for tool in recipe.tools if not recipe.on_demand]


def _wanted(recipe: Recipe, path: OnPath | None, settings: Settings) -> str:
    release = released.wanted(recipe, settings)
    pinned = recipe.version or (f"v{release.version} as released" if release else "as in this checkout")
    return f"{pinned} (PATH: {path})" if path else pinned
