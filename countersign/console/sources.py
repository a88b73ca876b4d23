"""Where configuration comes from: files and ``INVOKE_*``, in which only keys that mean something may stand.

Invoke takes whatever it finds, so that a misspelt key looks like a set one. Here a key that is not known, a group
that is not a mapping and a value that is not a scalar are refused, with the nearest known name.
"""

from __future__ import annotations

import dataclasses
import difflib
import errno
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from invoke.config import Config
from invoke.context import Context

from countersign.console import output
from countersign.console.config import ROOT, Settings, settings_from
from countersign.console.errors import UsageError

PREFIX = "INVOKE_"
CONFIG = "INVOKE_RUNTIME_CONFIG"
"""Names a file as ``--config`` does; Invoke's own."""
_INTERNAL = {"room", "sudo_password"}  # set by tasks, and read from `sudo.password`
RENAMED = {("kind", "from_birth"): ("kind", "preinstalled")}
"""Keys by their former name (group, key), which are still read → their name now."""
_SHARED = ("system", "user")
"""Files that other projects on Invoke may have keys in: only what resembles a key of ours is refused there."""


def known() -> dict[str, frozenset[str]]:
    """Return the keys that mean something: group → its keys, and under "" those of no group."""
    own = {field.name: field.default for field in dataclasses.fields(Settings)}
    groups = {
        name: frozenset(field.name for field in dataclasses.fields(default))
        for name, default in own.items()
        if dataclasses.is_dataclass(default)
    }
    single = own.keys() - _INTERNAL - groups.keys()
    return {"": frozenset({*single, "require"}), "sudo": frozenset({"password"}), **groups}


def nearest(name: str, names: Iterable[str]) -> str:
    """Return the known name that ``name`` was probably meant to be, or an empty text."""
    folded = {each.lower(): each for each in names}
    found = difflib.get_close_matches(name.lower(), folded, n=1)
    return folded[found[0]] if found else ""


class Sources(Config):
    """Invoke's configuration, of which every source is checked before it counts.

    Raises (while loading or merging):
        UsageError: a key, group or value that means nothing here.
    """

    def merge(self) -> None:
        """Check what files hold, then merge all sources."""
        for source in ("system", "user", "project", "runtime"):
            if getattr(self, f"_{source}_found"):
                self._check_file(source)
        super().merge()

    def load_shell_env(self) -> None:
        """Take ``INVOKE_*`` as text, whatever type a file gave the same key.

        Raises:
            UsageError: a variable that sets nothing.
        """
        self._set(_env=from_variables(os.environ))
        self.merge()

    def _load_py(self, path: str) -> dict[str, Any]:
        if not Path(path).exists():
            raise FileNotFoundError(errno.ENOENT, "no such file", path)  # as Invoke expects of what is not there
        raise UsageError("is a Python file", where=path, expected="a configuration in YAML or JSON, like invoke.yaml")

    def _check_file(self, source: str) -> None:
        path, data = str(getattr(self, f"_{source}_path")), getattr(self, f"_{source}")
        if data is None:  # an empty file
            self._set(f"_{source}", {})
            data = {}
        renamed(data, path)
        check(data, path, shared=source in _SHARED)


def check(data: object, path: str, *, shared: bool = False) -> None:
    """Check what a file of configuration holds.

    Args:
        shared: whether other projects have keys in it too.

    Raises:
        UsageError: a key is not known, or a value is of the wrong form.
    """
    if not isinstance(data, Mapping):
        raise UsageError(f"got {_shown(data)}", where=path, expected="a mapping of keys, like invoke.yaml")
    keys = known()
    for key, value in data.items():
        if key in keys and key:
            _check_group(key, value, keys[key], path)
        elif key in keys[""]:
            _check_value(key, value, path)
        else:
            _refuse(str(key), {*keys, *keys[""]} - {""}, path, shared=shared)


def renamed(data: object, path: str) -> None:
    """Give the keys of a file's content that have a former name their present one, and say so."""
    for (group, key), (_, now) in RENAMED.items():
        inner = data.get(group) if isinstance(data, dict) else None
        if isinstance(inner, dict) and key in inner:
            inner.setdefault(now, inner.pop(key))
            _hint(f"{path}: {group}.{key}", f"{group}.{now}")


def from_variables(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return what the variables ``INVOKE_*`` set, as a configuration.

    Raises:
        UsageError: a variable sets nothing.
    """
    places = {_variable(place): place for place in ((group, key) for group, keys in known().items() for key in keys)}
    former = {_variable(place): now for place, now in RENAMED.items()}
    found: dict[str, Any] = {}
    for name in filter(lambda name: name.startswith(PREFIX) and name != CONFIG, environment):
        if name in former:
            group, key = former[name]
            found.setdefault(group, {}).setdefault(key, environment[name])
            _hint(name, _variable((group, key)))
            continue
        if name not in places:
            _refuse(name, {*places, CONFIG}, "environment")
        group, key = places[name]
        (found.setdefault(group, {}) if group else found)[key] = environment[name]
    return found


def _variable(place: tuple[str, str]) -> str:
    return PREFIX + "_".join(filter(None, place)).upper()


def _hint(name: str, now: str) -> None:

    output.warn(f"{name} is called {now} now; the old name is still read")


def _check_group(group: str, value: object, keys: frozenset[str], path: str) -> None:
    if value is None:
        raise UsageError("is empty", where=f"{path}: {group}", expected=f"a mapping with {', '.join(sorted(keys))}")
    if not isinstance(value, Mapping):
        names = ", ".join(sorted(keys))
        raise UsageError(f"got {_shown(value)}", where=f"{path}: {group}", expected=f"a mapping with {names}")
    for key, inner in value.items():
        if key not in keys and (group != "sudo" or key not in ("user", "prompt")):
            _refuse(f"{group}.{key}", {f"{group}.{each}" for each in keys}, path)
        _check_value(f"{group}.{key}", inner, path)


def _check_value(key: str, value: object, path: str) -> None:
    if value is not None and not isinstance(value, str | int | float | Path):
        raise UsageError(f"got {_shown(value)}", where=f"{path}: {key}", expected="one value, as text")


def _refuse(name: str, names: Iterable[str], path: str, *, shared: bool = False) -> None:
    near = nearest(name, names)
    if shared and not near:
        return
    do = f"did you mean {near}?" if near else "invoke.yaml lists all that there are"
    raise UsageError(f"nothing is called {name}", where=path, do=do)


def _shown(value: object) -> str:
    text = repr(value)
    return f"a {type(value).__name__}" if len(text) > 60 else text  # noqa: PLR2004 - characters of a line


def load_settings() -> Settings:
    """Return the settings of this repository outside of a task (for pytest): invoke.yaml and ``INVOKE_*``."""
    config = Sources(project_location=ROOT)
    config.load_project()
    config.load_shell_env()
    return settings_from(Context(config))
