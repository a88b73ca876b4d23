"""One run of bench.start from nothing to its document."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from countersign.console import output
from countersign.console.config import Settings
from lab.bench import gauges, goals, images, show, starts
from lab.bench.model import Sizes
from lab.bench.show import START_COLUMNS as COLUMNS
from lab.bench.show import start_rows as rows
from lab.bench.testbed import Testbed, opened

__all__ = ["COLUMNS", "measure", "rows"]
HOOK_RUNS = 200


def measure(settings: Settings, rounds: int, at_once: int) -> dict[str, Any]:
    """Set up, measure, take away, and return the document.

    Raises:
        MissingError: we are not root.
        InfrastructureError: something cannot be set up, or a variant is not what it claims to be.
        CriError: the runtime failed.
    """
    machine = gauges.machine()
    with opened(settings) as ours:
        with output.progress(f"{2 * (rounds + starts.WARM_UP) + 3} images, pushed, signed and on the node"):
            ready = images.prepare(ours, rounds + starts.WARM_UP)
        ours.forget()
        with output.progress(f"{rounds} rounds"):
            samples = starts.rounds(ours, ready, rounds)
        with output.progress(f"{HOOK_RUNS} runs of the hook alone"):
            hooks = starts.hooks_only(ours, ready.same, HOOK_RUNS)
        with output.progress(f"{at_once} starts at once"):
            burst = starts.burst(ours, ready.burst, at_once)
        sizes = _sizes(ours)
        machine |= {"loadAfter": gauges.load(), "programs": _programs(ours)}
    return show.start_document(samples, hooks, burst, goals.of_starts(samples, hooks, burst, sizes), machine)


def _sizes(ours: Testbed) -> Sizes:
    layout = ours.instance.layout
    resident = gauges.metrics(layout.metrics)[gauges.RESIDENT]
    return Sizes(gate_rss=int(resident), hook=Path(os.path.realpath(layout.hook)).stat().st_size)


def _programs(ours: Testbed) -> str:
    """Return which programs ran, in words."""
    with ours.instance.client() as client:
        containerd = client.version().version
    runc = ours.instance.node.run([ours.instance.bin("runc"), "--version"]).text.split()[2]
    return f"containerd {containerd} ({ours.instance.snapshotter}), runc {runc}"
