"""What a step would change in a file, as users read it; secrets and programs are never shown."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from countersign.nodes.files import stats

if TYPE_CHECKING:
    from collections.abc import Iterable

    from countersign.nodes.files import Seen
    from countersign.nodes.node import Node

OTHERS = 0o077
PROGRAM = 0o111
NOWHERE = "/dev/null"


def file_diff(node: Node, path: str, wanted: bytes, mode: int) -> str:
    """Return a unified diff (as GNU diff's ``-u``) from what lies on a node to what is wanted; empty for no difference.

    A file that is the owner's alone, there or as wanted, is only said to differ, and so is one that is
    a program or no text.

    Args:
        node: where it lies.
        path: absolute, on the node.
        wanted: the content that it is to have.
        mode: the permission bits that it is to have.
    """
    seen = stats(node, [path]).get(path)
    where = f"{node.name}:{path}"
    if _hidden(mode) or (seen is not None and _hidden(seen.mode)):
        return f"{where} {'is missing' if seen is None else 'differs'} (its content is not shown)"
    there = node.get(path) if seen is not None and seen.kind == "f" else b""
    old, new = _lines(there), _lines(wanted)
    if old is None or new is None:
        return f"{where} differs (it is not text)"
    old_name = where if seen is not None else NOWHERE
    lines = [line.rstrip("\n") for line in difflib.unified_diff(old, new, old_name, where, n=2)]
    return "\n".join([*_attributes(where, seen, mode), *lines])


def _hidden(mode: int) -> bool:
    return not mode & OTHERS or bool(mode & PROGRAM)


def _attributes(where: str, seen: Seen | None, mode: int) -> Iterable[str]:
    if seen is None:
        return
    if seen.kind != "f":
        yield f"{where} is not a file ({seen.kind})"
    elif seen.mode != mode:
        yield f"{where} has the mode {seen.mode:04o}, expected {mode:04o}"


def _lines(content: bytes) -> list[str] | None:
    """Return the lines of a text, or None when it is none."""
    if b"\0" in content:
        return None
    try:
        return content.decode().splitlines(keepends=True)
    except UnicodeDecodeError:
        return None
