"""The demo and pause images, as OCI layouts."""

from __future__ import annotations

from pathlib import Path

from countersign.console.config import Settings
from countersign.tools.resolver import tool


def demo_layout(settings: Settings) -> Path:
    """Return the layout of the demo image, built if need be: one index for amd64 and arm64."""
    return tool("demo", settings)


def pause_layout(settings: Settings) -> Path:
    """Return the layout of the pause image, built if need be: one index for amd64 and arm64."""
    return tool("pause", settings)
