"""What containerd's NRI costs a start: the hook alone, and the hook with the gate as a required plugin, side by side.

Only the whole of containerd can be with or without it, so it is restarted for each variant, in blocks that take
turns: what else the machine does meets both alike.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from containerd.adapt import without_nri
from countersign.console import output
from countersign.console.config import Settings
from countersign.cri.model import Container
from lab.bench import gauges, images, stats
from lab.bench.at_once import blocks
from lab.bench.goals import Goal
from lab.bench.images import Image
from lab.bench.show import difference, goal_values, times
from lab.bench.starts import SETTLE, WARM_UP
from lab.bench.testbed import Testbed, opened
from lab.trials.cri_place import SLEEP

if TYPE_CHECKING:
    from countersign.cri.client import Client

LIMIT = 1.05
"""What NRI may add to a start: a share, for machines differ."""
COLUMNS = ("containerd with", "n", "create, ms", "create + start, ms", "over the hook alone, ms", "ratio")
VARIANTS = {"hook": "the hook alone", "both": "the hook, and the gate required by NRI"}


@dataclass(frozen=True)
class Sample:
    """One warm start of one variant; milliseconds."""

    variant: str
    create: float
    both: float


def measure(settings: Settings, rounds: int) -> dict[str, Any]:
    """Set up, measure, take away, and return the document ``countersign.bench-nri/v1``.

    Raises:
        MissingError: we are not root.
        InfrastructureError: something cannot be set up.
        CriError: the runtime failed.
    """
    machine = gauges.machine()
    with opened(settings, compared=False) as ours:
        image = images.prepare(ours, 0).same
        with output.progress(f"{rounds} rounds of {len(VARIANTS)} variants"):
            samples = list(_rounds(ours, image, rounds))
        with ours.instance.client() as client:
            machine |= {"loadAfter": gauges.load(), "programs": f"containerd {client.version().version}"}
    return document(samples, machine)


def _rounds(ours: Testbed, image: Image, rounds: int) -> Iterator[Sample]:
    for count in blocks(rounds):
        for variant in VARIANTS:
            with _variant(ours, variant), ours.instance.client() as client:
                yield from _block(client, variant, image, count)


def _block(client: Client, variant: str, image: Image, count: int) -> Iterator[Sample]:
    with client.pod() as pod:
        for number in range(WARM_UP + count):
            time.sleep(SETTLE)
            wanted = Container(image.id, written=image.reference, command=SLEEP, name=f"c{number}")
            began = time.perf_counter()
            made = client.create(pod, wanted)
            created = time.perf_counter()
            client.start(made)
            started = time.perf_counter()
            client.stop(made)
            client.remove(made)
            if number >= WARM_UP:
                yield Sample(variant, (created - began) * 1000, (started - began) * 1000)


@contextmanager
def _variant(ours: Testbed, variant: str) -> Iterator[None]:
    """Let containerd run with or without NRI; afterwards the configuration of set-up lies there again."""
    node, path = ours.instance.node, ours.instance.config
    kept = node.get(path)
    if variant == "hook":
        node.put(without_nri(kept), path)
    try:
        ours.instance.keeper.controls(ours.instance.wait_until_it_answers).restart_runtime()
        if variant == "both":
            ours.instance.wait_for_plugin()
        yield
    finally:
        node.put(kept, path)


def document(samples: list[Sample], machine: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document of bench.nri; times in milliseconds, ``ratio`` of the medians of create + start."""
    creates = {key: [each.create for each in samples if each.variant == key] for key in VARIANTS}
    starts = {key: [each.both for each in samples if each.variant == key] for key in VARIANTS}
    found = {key: stats.summary(values) for key, values in starts.items()}
    ratio = found["both"].median / found["hook"].median
    return {
        "version": "countersign.bench-nri/v1",
        "machine": dict(machine),
        "creates": {key: asdict(stats.summary(values)) for key, values in creates.items()},
        "starts": {key: asdict(each) for key, each in found.items()},
        "over": asdict(stats.paired(starts["both"], starts["hook"])),
        "ratio": ratio,
        "goals": goal_values([Goal("create + start with NRI over the hook alone, medians", ratio, LIMIT, "")]),
    }


def rows(document: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the table of a document of bench.nri, in the order of ``COLUMNS``."""
    compared = (difference(document["over"]), f"{document['ratio']:.3f}")
    return [
        (
            text,
            str(document["starts"][key]["n"]),
            times(document["creates"][key]),
            times(document["starts"][key]),
            *(compared if key == "both" else ("", "")),
        )
        for key, text in VARIANTS.items()
    ]
