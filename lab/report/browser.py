"""Headless Chromium, to look at the page: a picture, and what its scripts make of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from countersign.console.errors import InfrastructureError, MissingError

QUIET = (
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WITHIN = 60
NAMES = ("chromium", "chromium-browser", "google-chrome")


def program() -> str:
    """Return Chromium's path. Raises MissingError when there is none."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if not found:
        raise MissingError("Chromium is not installed", do="install it (on Debian: apt-get install chromium)")
    return found


def picture(page: Path, target: Path, size: str = "1500,1100") -> None:
    """Save a picture of a page as PNG.

    Raises:
        MissingError: there is no Chromium.
        InfrastructureError: it failed.
    """
    run(page, [f"--screenshot={target}", f"--window-size={size}", "--hide-scrollbars"])
    if not target.is_file():
        raise InfrastructureError("Chromium made no picture", where=str(page))


def run(page: Path, options: list[str]) -> str:
    """Open a page in a browser of its own with these options, and return its standard output."""
    with tempfile.TemporaryDirectory(prefix="countersign-chromium-") as profile:
        argv = [program(), *QUIET, f"--user-data-dir={profile}", *options]
        argv += ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium's own sandbox refuses root
        try:
            ended = subprocess.run(
                [*argv, page.resolve().as_uri()], capture_output=True, text=True, timeout=WITHIN, check=False
            )
        except subprocess.TimeoutExpired:
            raise InfrastructureError(f"Chromium did not end within {WITHIN} s", where=str(page)) from None
    if ended.returncode:
        raise InfrastructureError(f"Chromium ended with {ended.returncode}", where=str(page))
    return ended.stdout
