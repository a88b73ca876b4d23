"""Configuration files from the templates beside the code."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def render(template: Path, **values: Any) -> bytes:
    """Return a Jinja template filled in; a name that it needs and is not given is an error.

    In templates ``tojson`` writes a value as JSON, which is also how TOML and YAML write
    strings, lists and numbers.

    Raises:
        jinja2.UndefinedError: a value is missing (a mistake of ours, not of the user).
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # noqa: S701 - no HTML; values go through tojson
    )
    # the default policy also escapes characters that matter in HTML
    environment.filters["tojson"] = _json
    return environment.from_string(template.read_text(encoding="utf-8")).render(**values).encode()


def _json(value: Any) -> str:
    import json

    return json.dumps(value, ensure_ascii=False)
