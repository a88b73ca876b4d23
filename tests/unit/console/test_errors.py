"""What the system says is told in its words, without its numbers."""

from __future__ import annotations

import errno
import os

import pytest

from countersign.console.errors import cause


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED)), "Connection refused"),
        (OSError(None, "Unable to connect to port 1"), "Unable to connect to port 1"),
        ("<urllib3>: [Errno -2] Name or service not known", "<urllib3>: Name or service not known"),
        (ValueError("[Errno"), "[Errno"),
        (TimeoutError(), ""),
    ],
)
def test_a_cause_has_no_number(said: object, told: str) -> None:
    assert cause(said) == told
