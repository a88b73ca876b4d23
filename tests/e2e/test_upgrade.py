"""A gate that is upgraded over and over while containers start: none is refused for it, and none starts unjudged.

With ``INVOKE_TESTS_STARTS=1000`` 1,000 starts of a signed image over 20 upgrades.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from countersign.console import output
from countersign.enforcement import gate
from countersign.nodes import service
from countersign.nodes.process import Process
from countersign.nodes.steps import Running
from countersign.runtimes.private import made_of
from tests.starts import STARTS, Enforced, enforced

pytestmark = [pytest.mark.root, pytest.mark.e2e, pytest.mark.timeout(900)]

UPGRADES = min(20, STARTS // 10)
SIGNED, UNSIGNED = "both", "unsigned"


@pytest.fixture
def at() -> Iterator[Enforced]:
    with enforced([SIGNED, UNSIGNED]) as found:
        yield found


def test_while_the_gate_is_upgraded_no_start_is_refused_and_none_is_unjudged(at: Enforced, tmp_path: Path) -> None:
    assert at.attempt(SIGNED)[1] == ""  # the pod and its network are there
    restarts = service.state(at.at.run, "gate").restarts
    allowed: list[tuple[str, str]] = []
    refused: list[tuple[str, str]] = []
    over = threading.Event()

    def start(image: str, attempts: list[tuple[str, str]]) -> None:
        while not over.is_set():
            attempts.append(at.attempt(image))

    with ThreadPoolExecutor() as pool:
        starting = [pool.submit(start, *each) for each in ((SIGNED, allowed), (SIGNED, allowed), (UNSIGNED, refused))]
        try:
            gates = [upgraded(at, tmp_path, number, allowed) for number in range(UPGRADES)]
            wait_for(allowed, STARTS)
        finally:
            over.set()
    for worker in starting:
        worker.result()

    output.say(f"{len(allowed)} signed and {len(refused)} unsigned starts over {len(gates)} upgrades")
    assert len({gate.pid for gate in gates}) == UPGRADES
    assert service.state(at.at.run, "gate").restarts == restarts
    assert {code for _, code in allowed} == {""}
    assert {code for _, code in refused} == {"UNSIGNED"}
    judged = {each["container"] for each in at.allowed()}
    assert {container for container, _ in allowed} <= judged
    assert not {container for container, _ in refused} & judged


def upgraded(at: Enforced, folder: Path, number: int, allowed: list[tuple[str, str]]) -> Process:
    """Have set-up's own steps put another gate in place when its turn among the starts has come."""
    wait_for(allowed, number * STARTS // UPGRADES)
    now = made_of(at.settings, at.at).gate
    newer = folder / f"gate-{number}"
    newer.write_bytes(now.program.read_bytes() + f"{number}".encode())  # what comes after an ELF is not loaded
    parts = replace(now, program=newer)
    for step in (*gate.steps(parts), Running(gate.service(parts, at.at.cgroup))):
        if step.needed():
            step.apply()
    child = service.state(at.at.run, "gate").child
    assert child
    return child


def wait_for(attempts: list[tuple[str, str]], count: int) -> None:
    deadline = time.monotonic() + 600
    while len(attempts) < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)
