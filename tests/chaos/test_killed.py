"""A gate that is killed every second while containers start: nothing unsigned runs, all that is signed comes to run.

With ``INVOKE_TESTS_STARTS=200`` 200 starts of five images.
"""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from countersign.console import output
from countersign.console.errors import InfrastructureError
from countersign.nodes import service
from tests.starts import STARTS, Enforced, enforced, named

pytestmark = [pytest.mark.root, pytest.mark.timeout(1800)]

EXPECTED = {"attachment": "", "unsigned": "UNSIGNED", "bundle": "", "wrong_key_bundle": "BAD_SIGNATURE", "both": ""}
"""Five images, and the code that refuses each; none where it is signed."""
FOR_NOW = {"GATE_DOWN", "TIMEOUT"}
"""What is refused with these codes is tried again, as the kubelet does."""
AGAIN_AFTER = 0.05
PATIENCE = 120.0


@pytest.fixture
def at() -> Iterator[Enforced]:
    with enforced(list(EXPECTED)) as found:
        yield found


def test_while_the_gate_is_killed_every_second_what_is_signed_comes_to_run_and_nothing_else(at: Enforced) -> None:
    seen: Counter[str] = Counter()
    with killed_every_second(at) as kills:
        for number in range(STARTS):
            image = list(EXPECTED)[number % len(EXPECTED)]
            deadline = time.monotonic() + PATIENCE
            while (code := at.attempt(image)[1]) in FOR_NOW:
                seen[code] += 1
                assert time.monotonic() < deadline, f"{image}: {code} for {PATIENCE:g} s"
                time.sleep(AGAIN_AFTER)
            assert code == EXPECTED[image], image
            seen[code] += 1
    output.say(f"{STARTS} starts, {kills[0]} kills: {dict(seen)}")
    assert kills[0] >= STARTS // 20
    assert seen["GATE_DOWN"], seen
    names = {named(image) for image in EXPECTED}
    assert {each["image"] for each in at.allowed()} & names == {
        named(image) for image, code in EXPECTED.items() if not code
    }


@contextmanager
def killed_every_second(at: Enforced) -> Iterator[list[int]]:
    """Kill the gate every second beside the block, and count how often it was there to be killed."""
    over, kills = threading.Event(), [0]

    def kill() -> None:
        while not over.wait(1):
            with suppress(InfrastructureError):  # it has not come back from the last blow
                service.signal_child(Path(at.layout.run), "gate", signal.SIGKILL)
                kills[0] += 1

    worker = threading.Thread(target=kill)
    worker.start()
    try:
        yield kills
    finally:
        over.set()
        worker.join()
