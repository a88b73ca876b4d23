"""The gate of a private containerd is upgraded over and over, by set-up's own steps, while containers start.

With ``INVOKE_TESTS_STARTS=1000`` 1,000 starts of a signed image over 20 upgrades.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from countersign.enforcement import gate
from countersign.nodes.steps import Running
from countersign.runtimes.private import made_of
from tests.starts import STARTS, Enforced, enforced, machine, upgraded_under_starts

pytestmark = [pytest.mark.root, pytest.mark.e2e, pytest.mark.timeout(900)]


def test_while_the_gate_is_upgraded_no_start_is_refused_and_none_is_unjudged(tmp_path: Path) -> None:
    with enforced(["both", "unsigned"]) as at:
        upgraded_under_starts(at, min(20, STARTS // 10), lambda number: upgrade(at, tmp_path / f"gate-{number}"))


def upgrade(at: Enforced, newer: Path) -> None:
    """Have set-up's own steps put another gate in place."""
    containerd = machine(at.settings)
    now = made_of(at.settings, containerd).gate
    newer.write_bytes(now.program.read_bytes() + newer.name.encode())  # what comes after an ELF is not loaded
    newer.chmod(0o755)  # it says what its files on the node contain
    parts = replace(now, program=newer)
    for step in (*gate.steps(parts), Running(gate.service(parts, containerd.cgroup))):
        if step.needed():
            step.apply()
