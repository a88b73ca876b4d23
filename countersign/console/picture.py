"""A terminal's lines as a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence


def svg(lines: Sequence[str], title: str, width: int) -> str:
    """Return lines with their colours (ECMA-48 SGR) as SVG, under a title; ``width`` is in characters."""
    from rich.console import Console
    from rich.text import Text

    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi("\n".join(lines)), soft_wrap=False, crop=True)
    return console.export_svg(title=title)
