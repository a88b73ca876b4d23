r"""Foreign text made harmless: what registries, pods, policies and nodes say, before anybody's terminal reads it.

A character that would not be seen as itself (one that moves the cursor, turns the direction of a line, or has no
width) is shown as its escape, ``\x1b`` or ``\u202e``; so nothing is hidden, and nothing acts. ``console.output``
and the report's template are the only places that need this: nothing else writes to a terminal or a page.
"""

from __future__ import annotations

import re
from typing import overload

_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Invisible, although Unicode counts them among letters, marks and symbols (most of Default_Ignorable_Code_Point)."""


def text(foreign: str) -> str:
    """Return text of several lines: its line feeds stay, and each line is cleaned as ``line`` does."""
    return "\n".join(map(line, foreign.split("\n")))


def line(foreign: str) -> str:
    """Return one line: breaks are escaped too, so that no foreign text begins a line of its own; tabs stay.

    Unicode's categories C (control, format, surrogate, private, unassigned) and Z (separators other than a space)
    are escaped, and whatever else is invisible.
    """
    if foreign.isprintable() and not _UNSEEN.search(foreign):
        return foreign
    return "".join(map(_shown, foreign))


@overload
def for_page(value: str) -> str: ...
@overload
def for_page(value: object) -> object: ...
def for_page(value: object) -> object:
    """Return a value as a template shows it (jinja2's ``finalize``); what is marked as safe is ours and stays."""
    return value if not isinstance(value, str) or hasattr(value, "__html__") else text(value)


def _shown(character: str) -> str:
    if character == "\t" or (character.isprintable() and not _UNSEEN.match(character)):
        return character
    return character.encode("unicode_escape").decode("ascii")
