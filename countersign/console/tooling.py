"""The group ``tools`` of the configuration: how our own programs are had."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from countersign.console.errors import UsageError

BUILT = "none"
"""The value of ``gate_release`` that takes no release."""
_RELEASE_RE = re.compile(
    r"v?((?:0|[1-9][0-9]{0,8})(?:\.(?:0|[1-9][0-9]{0,8})){2}(?:-[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?)"
)
_LONGEST = 64  # characters of a version


@dataclass(frozen=True)
class ToolSettings:
    """How our own programs are had.

    Attributes:
        gate_release: the version whose released programs are taken, without its v; ``none`` to build them; empty for
            the release that this checkout is exactly, if it is one.
        gate_url: the folder with that release's files (``{version}`` stands for it); empty for where it is published.
        trusted_root: of the Sigstore that vouches for it; None for the public one.
    """

    gate_release: str = ""
    gate_url: str = ""
    trusted_root: Path | None = None


def tool_settings(given: Mapping[str, Any], root: Path) -> ToolSettings:
    """Read the group.

    Args:
        root: where relative paths count from.

    Raises:
        UsageError: a value that cannot be used.
    """
    release, url, trusted = (_text(given, key) for key in ("gate_release", "gate_url", "trusted_root"))
    return ToolSettings(_release(release), url, root / Path(trusted).expanduser() if trusted else None)


def _text(given: Mapping[str, Any], key: str) -> str:
    value = given.get(key)
    if value is not None and (not isinstance(value, str) or "\0" in value):
        raise UsageError(f"got {value!r}", where=f"tools.{key}", expected="text (in a file: in quotes)")
    return (value or "").strip()


def _release(text: str) -> str:
    if text in ("", BUILT):
        return text
    match = _RELEASE_RE.fullmatch(text)
    if not match or len(text) > _LONGEST:
        raise UsageError(f"got {text!r}", where="tools.gate_release", expected=f"a release as v1.2.3, or {BUILT}")
    return match[1]
