"""What decides whether a figure may be believed, with a place and a gate of the test's own."""

from types import SimpleNamespace
from typing import Any

import pytest

from countersign.console.errors import InfrastructureError
from countersign.cri.errors import CriError
from lab.bench import gauges, starts
from lab.bench.images import Image, Images
from lab.bench.model import COSIGN, NO_OP, STORED, VARIANTS, WARM

STAND: Any = SimpleNamespace(instance=SimpleNamespace(layout=SimpleNamespace(metrics="")))
APP = Image("registry.example/app:v1", "sha256:1")


class Place:
    """Starts containers, refuses ``refused`` handlers, and logs ``source`` for countersign's."""

    def __init__(self, source: str = "memory", refused: tuple[str, ...] = ()) -> None:
        self.source, self.refused = source, refused
        self.made: dict[str, str] = {}
        self.removed: list[str] = []

    def create(self, image_id, written, *, handler):
        self.made[name := f"c{len(self.made)}"] = handler
        return name

    def start(self, container):
        if self.made[container] in self.refused:
            raise CriError("StartContainer", "UNKNOWN", "refused")

    def remove(self, container):
        self.removed.append(container)

    def verdicts(self):
        ours = [name for name, handler in self.made.items() if handler == WARM.handler]
        return [{"container": name, "source": self.source, "ms": 1.25} for name in ours]


def place(source: str = "memory", refused: tuple[str, ...] = ()) -> Any:
    """Return a stand-in for the place that the bench measures."""
    return Place(source, refused)


@pytest.fixture(autouse=True)
def counter(monkeypatch):
    """Make each look at the gate's metrics find one verification more."""
    count = iter(range(100))
    monkeypatch.setattr(gauges, "verifications", lambda _: next(count))


def test_a_sample_has_the_times_the_source_and_the_verifications():
    trial = place()
    sample = starts._measure(STAND, trial, WARM, APP, 3)
    assert (sample.variant, sample.turn, sample.gate, sample.source) == ("warm", 3, 1.25, "memory")
    assert sample.verifications == 1
    assert sample.both >= sample.start >= 0
    assert trial.removed == ["c0"]


def test_an_outcome_from_elsewhere_than_the_variant_says_is_no_sample():
    with pytest.raises(InfrastructureError, match="came from 'memory'; expected 'store'"):
        starts._measure(STAND, place("memory"), STORED, APP, 0)
    assert starts._measure(STAND, place("memory"), STORED, APP, -1).source == "memory"


def test_a_start_without_a_gate_has_no_time_in_it():
    sample = starts._measure(STAND, place(), NO_OP, APP, 0)
    assert (sample.gate, sample.source) == (None, "")


def test_a_hook_that_lets_an_unsigned_image_start_is_not_compared():
    starts._prove(place(refused=(COSIGN.handler,)), COSIGN, APP)
    with pytest.raises(InfrastructureError, match="shell hook with cosign verify: an unsigned image was started"):
        starts._prove(place(), COSIGN, APP)


def test_a_no_op_hook_that_refuses_is_none():
    starts._prove(place(), NO_OP, APP)
    with pytest.raises(InfrastructureError, match="no-op static hook: an unsigned image was refused"):
        starts._prove(place(refused=(NO_OP.handler,)), NO_OP, APP)


def test_the_order_differs_from_round_to_round_and_is_the_same_in_each_run():
    orders = [tuple(starts._shuffled(turn)) for turn in range(20)]
    assert all(sorted(order, key=VARIANTS.index) == list(VARIANTS) for order in orders)
    assert len(set(orders)) > 10
    assert orders == [tuple(starts._shuffled(turn)) for turn in range(20)]


def test_cold_variants_start_another_image_each_round():
    images = Images(
        same=APP,
        others={kind: [Image(f"{kind}-{turn}", "") for turn in range(2)] for kind in ("stored", "remote")},
        burst=APP,
        unsigned=APP,
    )
    assert [images.of("same", turn) for turn in (0, 1)] == [APP, APP]
    assert [images.of("remote", turn).reference for turn in (0, 1)] == ["remote-0", "remote-1"]
