"""YAML with the line of every key and item, for messages that say where.

Stricter than YAML: duplicate keys, aliases and keys that are not strings are refused; so nothing in a policy can be
read in two ways.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from countersign.policy.problems import Key, PolicyInvalid, Problem

_LIMIT = 1 << 20  # bytes
_MAX_DEPTH = 16


@dataclass(frozen=True)
class Document:
    """A parsed YAML file.

    Attributes:
        path: where it was read from.
        lines: the line, from 1, of each key and item.
    """

    path: Path
    value: Any
    lines: Mapping[Key, int]

    def problem(self, key: Key, text: str) -> Problem:
        """Return a problem at ``key``, or at the nearest key above it that the file has."""
        known = key
        while known and known not in self.lines:
            known = known[:-1]
        return Problem(self.path, self.lines.get(known, 1), key, text)


def read(path: Path) -> Document:
    """Read a YAML file.

    Raises:
        PolicyInvalid: if it cannot be read, is over 1 MiB, or is not such YAML.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_LIMIT + 1)
    except OSError as err:
        raise PolicyInvalid([Problem(path, 0, (), f"cannot be read: {err.strerror}")]) from err
    if len(content) > _LIMIT:
        raise PolicyInvalid([Problem(path, 0, (), "is over 1 MiB")])
    return parse(content, path)


def parse(content: bytes, path: Path) -> Document:
    """Parse YAML from memory; see ``read``."""
    try:
        loader = yaml.SafeLoader(content)
        try:
            node = loader.get_single_node()
            walker = _Walker(loader, path)
            value = walker.value(node, ()) if node is not None else None
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as err:
        line = err.problem_mark.line + 1 if err.problem_mark else 1
        raise PolicyInvalid([Problem(path, line, (), f"is not YAML: {err.problem}")]) from err
    except (yaml.YAMLError, ValueError) as err:
        text = f"{err.reason}, at byte {err.position}" if isinstance(err, yaml.reader.ReaderError) else str(err)
        raise PolicyInvalid([Problem(path, 1, (), f"is not YAML: {text}")]) from err
    except RecursionError as err:
        raise PolicyInvalid([Problem(path, 1, (), f"nested deeper than {_MAX_DEPTH}")]) from err
    return Document(path, value, walker.lines)


class _Walker:
    """Turns YAML nodes into plain data and notes lines."""

    def __init__(self, loader: yaml.SafeLoader, path: Path) -> None:
        self.lines: dict[Key, int] = {}
        self._loader = loader
        self._path = path
        self._seen: set[int] = set()

    def value(self, node: yaml.Node, key: Key) -> Any:
        line = node.start_mark.line + 1
        self.lines.setdefault(key, line)
        if id(node) in self._seen:  # an alias is composed as the very node that it names
            raise self._invalid(line, key, "an alias, which is not supported; write the value out")
        self._seen.add(id(node))
        if len(key) > _MAX_DEPTH:
            raise self._invalid(line, key, f"nested deeper than {_MAX_DEPTH}")
        if isinstance(node, yaml.ScalarNode):
            self._check_text(node, key)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, key)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*key, index)) for index, item in enumerate(node.value)]
        return self._loader.construct_object(node)

    def _mapping(self, node: yaml.MappingNode, key: Key) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for name_node, value_node in node.value:
            line = name_node.start_mark.line + 1
            if not isinstance(name_node, yaml.ScalarNode) or name_node.tag != "tag:yaml.org,2002:str":
                raise self._invalid(line, key, f"a key that is not a string: {name_node.value!r}; quote it")
            self._check_text(name_node, key)
            name = name_node.value
            inner = (*key, name)
            if name in out:
                raise self._invalid(line, inner, f"stands here again; first on line {self.lines[inner]}")
            self.lines[inner] = line
            out[name] = self.value(value_node, inner)
        return out

    def _check_text(self, node: yaml.ScalarNode, key: Key) -> None:
        """Refuse halves of UTF-16 pairs, which YAML's escapes can make and no encoding has."""
        if any("\ud800" <= each <= "\udfff" for each in node.value):
            raise self._invalid(node.start_mark.line + 1, key, "an escape of half a character; write the character out")

    def _invalid(self, line: int, key: Key, text: str) -> PolicyInvalid:
        return PolicyInvalid([Problem(self._path, line, key, text)])
