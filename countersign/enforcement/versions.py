"""Which versions of containerd are too old, and which have known holes."""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DATA = Path(__file__).resolve().parents[2] / "gate" / "internal" / "doctor" / "containerd-versions.toml"
"""The gate is built with it, for its doctor reads it as well."""
Version = tuple[int, ...]
"""Major, minor and patch; compares with a version that has fewer parts."""


def parse(text: str) -> Version | None:
    """Return the version in what ``containerd --version`` prints, or None.

    A release candidate counts as the release before: it need not have its fixes.
    """
    found = re.search(r"\bv?(\d+)\.(\d+)\.(\d+)(-(?:alpha|beta|rc)\S*)?", text)
    if not found:
        return None
    major, minor, patch = (int(part) for part in found.groups()[:3])
    return major, minor, patch - 1 if found[4] else patch


def too_old(version: Version) -> bool:
    """Return whether nothing can be enforced on this version."""
    return version < _version(_data()["oldest"])


def holes(version: Version) -> str:
    """Return one line for a version with known holes: which, and where they are fixed; else an empty text."""
    found: list[str] = []
    for each in _data()["holes"]:
        fixed = sorted(_version(text) for text in each["fixed"])
        line = next((good for good in fixed if good[:2] == version[:2]), None)
        if version < line if line else version < fixed[0]:
            mended = ".".join(map(str, line or fixed[0]))
            found.append(f"{', '.join(each['ids'])} (fixed in {mended})")
    if not found:
        return ""
    shown = ".".join(map(str, version))
    upgrade = "upgrade it, such as by apt-get install --only-upgrade containerd"
    return f"containerd {shown} has known holes: {'; '.join(found)}; {upgrade}"


def _version(text: str) -> Version:
    return tuple(int(part) for part in text.split("."))


@cache
def _data() -> dict[str, Any]:
    return tomllib.loads(DATA.read_text(encoding="utf-8"))
