"""The gate of a private CRI-O hands over again and again while containers start (`tests.starts`)."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from countersign.nodes import service
from countersign.nodes.waiting import wait_for
from tests.starts import STARTS, Enforced, enforced, upgraded_under_starts


@pytest.mark.timeout(900)
def test_while_the_gate_is_upgraded_no_start_is_refused_and_none_is_unjudged() -> None:
    with enforced(["both", "unsigned"], "crio") as at:
        upgraded_under_starts(at, min(20, STARTS // 10), lambda _: hand_over(at))


def hand_over(at: Enforced) -> None:
    before = at.gate().child
    service.signal_child(Path(at.layout.run), "gate", signal.SIGUSR2)
    wait_for(lambda: at.gate().child not in (None, before), "no other gate serves")
