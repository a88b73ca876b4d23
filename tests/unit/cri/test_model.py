from __future__ import annotations

import pytest

from countersign.cri.model import parse_log

STAMP = b"2026-11-22T20:00:00.000000001Z"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", b""),
        (STAMP + b" stdout F line\n", b"line\n"),
        (STAMP + b" stderr F \n", b"\n"),
        (STAMP + b" stdout P long, \n" + STAMP + b" stdout F joined\n", b"long, joined\n"),
        (STAMP + b" stdout P:future half\n", b"half"),
        (b"no such form\n", b"no such form\n"),
    ],
)
def test_a_log_is_what_the_container_wrote(content, text):
    assert parse_log(content) == text
