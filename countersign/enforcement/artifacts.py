"""What is kept of a runtime when something on it failed: logs and configuration, without secrets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from countersign.enforcement.runtime import Runtime


def collect(runtime: Runtime, folder: Path) -> Path:
    """Copy logs and configuration of a runtime to ``folder``, without secrets, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in runtime.kept():
        if runtime.node.exists(path):
            (folder / Path(path).name).write_bytes(runtime.node.get(path))
    return folder
