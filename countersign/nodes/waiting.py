"""Waiting for what has to come by itself."""

from __future__ import annotations

import time
from collections.abc import Callable

from countersign.console.errors import InfrastructureError

RECOVERY = 45.0
"""Seconds within which a killed or hung service must be back; systemd takes a hung one's watchdog twice."""


def wait_for(condition: Callable[[], bool], otherwise: str, within: float = RECOVERY, pause: float = 0.02) -> None:
    """Return once ``condition`` holds; ask it every ``pause`` seconds.

    Raises:
        InfrastructureError: it did not within so many seconds; the text begins with ``otherwise``.
    """
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            raise InfrastructureError(f"{otherwise} within {within:g} s")
        time.sleep(pause)
