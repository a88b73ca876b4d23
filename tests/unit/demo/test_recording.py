"""A run is recorded as it appears, and one that fails is not."""

from __future__ import annotations

import json

import pytest

from countersign.console.errors import VerdictError
from lab.demo import recording


def test_a_run_becomes_a_cast_and_a_picture(tmp_path):
    events = recording.record([["sh", "-c", "pwd; stty size; a=fa; printf '%sr\\rdone <now>\\n' $a"]], tmp_path)
    header, *entries = [json.loads(line) for line in recording.cast(events, "a title").splitlines()]
    assert (header["version"], header["title"]) == (2, "a title")
    assert all(kind == "o" for _, kind, _ in entries)
    assert [at for at, *_ in entries] == sorted(at for at, *_ in entries)
    written = "".join(text for *_, text in entries)
    assert f"{recording.ROWS} {recording.COLUMNS}" in written, "it has a terminal of this size"
    assert "far\rdone" in written
    assert str(tmp_path) not in written
    drawn = recording.picture(events, "a title")
    assert "a&#160;title" in drawn or "a title" in drawn
    assert "far" not in drawn.partition("</style>")[2], "what was written over has gone"


def test_a_run_that_fails_is_not_recorded(tmp_path):
    with pytest.raises(VerdictError, match="ended with 3"):
        recording.record([["sh", "-c", "exit 3"]], tmp_path)


@pytest.mark.parametrize(
    ("written", "stay"),
    [
        ("a\r\nb\r\n", ["a", "b"]),
        ("10 %\r20 %\r\x1b[2Kdone\n", ["done"]),
        ("\x1b[?25l\x1b[32m✓\x1b[0m step\n", ["\x1b[32m✓\x1b[0m step"]),
        ("step\r\x1b[2K\n", ["step"]),
        ("\x1b[32m\u2837\x1b[0m step\n✓ step\n", ["✓ step"]),
    ],
)
def test_what_stays_on_a_terminal(written, stay):
    assert recording.lines(written) == stay
