"""The group ``notation`` of the configuration: who signs in that format, and how."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from countersign.console import values
from countersign.console.errors import UsageError

_EXPIRY_RE = re.compile(r"([1-9][0-9]{0,5})([dhm])")
_UNITS = {"d": "days", "h": "hours", "m": "minutes"}
_SECONDS = range(1, 7 * 24 * 3600 + 1)


@dataclass(frozen=True)
class NotationSettings:
    """Who signs in the format notation.

    Attributes:
        plugin: a Notation signing plugin that signs instead of the key.
        plugin_key: which of its keys.
        plugin_config: for the plugin alone.
        plugin_timeout: seconds for each of its commands.
        expiry: how long a signature is good by its own word; None for ever.
        timestamp_roots: what ``signing.timestamp_server`` has to lead to, PEM.
    """

    plugin: str = ""
    plugin_key: str = ""
    plugin_config: Mapping[str, str] = field(default_factory=dict)
    plugin_timeout: int = 60
    expiry: timedelta | None = None
    timestamp_roots: Path | None = None


def notation_settings(given: Mapping[str, Any], root: Path) -> NotationSettings:
    """Return the group ``notation`` of a configuration whose relative paths count from ``root``.

    Raises:
        UsageError: a value that cannot be read.
    """
    texts = {key: _text(given, key) for key in ("plugin", "plugin_key")}
    if texts["plugin_key"] and not texts["plugin"]:
        raise UsageError("is set without notation.plugin", where="notation.plugin_key", do="name the plugin, too")
    if texts["plugin"] and not texts["plugin_key"]:
        raise UsageError("is empty", where="notation.plugin_key", expected="the ID of the plugin's key")
    return NotationSettings(
        texts["plugin"],
        texts["plugin_key"],
        _pairs(_text(given, "plugin_config")),
        _seconds(_text(given, "plugin_timeout") or "60"),
        _expiry(_text(given, "expiry")),
        _path(given, "timestamp_roots", root),
    )


def _text(given: Mapping[str, Any], key: str) -> str:
    return values.text(given, key, "", "notation.")


def _path(given: Mapping[str, Any], key: str, root: Path) -> Path | None:
    text = _text(given, key)
    return root / Path(text).expanduser() if text else None


def _pairs(text: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    for name, equals, _ in pairs:
        if not equals or not name.strip():
            raise UsageError(f"got {name!r}", where="notation.plugin_config", expected="NAME=VALUE,NAME=VALUE")
    return {name.strip(): value.strip() for name, _, value in pairs}


def _seconds(text: str) -> int:
    if not text.isdecimal() or int(text[:9]) not in _SECONDS:
        expected = f"a number of seconds, {_SECONDS.start} to {_SECONDS.stop - 1}"
        raise UsageError(f"got {text!r}", where="notation.plugin_timeout", expected=expected)
    return int(text)


def _expiry(text: str) -> timedelta | None:
    match = _EXPIRY_RE.fullmatch(text)
    if text and not match:
        raise UsageError(f"got {text!r}", where="notation.expiry", expected="a time such as 30d, 12h or 90m")
    return timedelta(**{_UNITS[match[2]]: int(match[1])}) if match else None
