"""Programs that the machine has already: found on PATH and asked for their version."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from countersign.tools.recipes import Tool, parse_version

_VERSION = re.compile(r"\b(?:v|go)?(\d+\.\d+(?:\.\d+)?)\b")
_PATIENCE = 10  # seconds for a program to print its version


def on_path(tool: Tool) -> tuple[Path, str] | None:
    """Return the path and version of a good program on PATH; None if there is none."""
    found = shutil.which(Path(tool.file).name) if tool.path else None
    if found is None or tool.path is None:
        return None
    version = version_of(Path(found), tool.path.ask)
    if version and tool.path.at_least <= parse_version(version) < tool.path.below:
        return Path(found), version
    return None


def version_of(program: Path, arguments: tuple[str, ...]) -> str:
    """Return the first version that a program prints; empty if it prints none or fails.

    It runs in an empty folder, so that nothing there (a go.mod, say) changes the answer.
    """
    with tempfile.TemporaryDirectory() as empty:
        try:
            answer = subprocess.run(
                [program, *arguments],
                cwd=empty,
                env={**os.environ, "GOTOOLCHAIN": "local"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=_PATIENCE,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return ""
    match = _VERSION.search(answer.stdout.decode(errors="replace"))
    return match[1] if match and answer.returncode == 0 else ""
