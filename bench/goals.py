"""What was aimed at, beside what came out. A goal missed is reported, and fails nothing: machines differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench import stats
from bench.model import NO_OP, REMOTE, STORED, WARM, Alone, Burst, Sample, Sizes

MIB = 1 << 20


@dataclass(frozen=True)
class Goal:
    """One figure and its limit.

    Attributes:
        name: what was measured.
        found: the figure.
        limit: what it should not exceed.
        unit: of both.
    """

    name: str
    found: float
    limit: float
    unit: str

    @property
    def met(self) -> bool:
        """Whether the figure is within its limit."""
        return self.found <= self.limit


def of_starts(samples: Sequence[Sample], alone: Alone, burst: Burst, sizes: Sizes) -> list[Goal]:
    """Return the goals of bench.start."""
    warm, noop = (start_times(samples, key) for key in (WARM.key, NO_OP.key))
    gate = {key: stats.summary(gate_times(samples, key)) for key in (WARM.key, STORED.key, REMOTE.key)}
    return [
        Goal("warm start over the no-op hook, median", stats.paired(warm, noop).median, 2, "ms"),
        Goal("warm, the hook alone over the no-op hook, median", stats.paired(alone.hook, alone.noop).median, 2, "ms"),
        Goal("warm, time in the gate, p99", gate[WARM.key].p99, 5, "ms"),
        Goal("cold, evidence on the node, time in the gate, median", gate[STORED.key].median, 3, "ms"),
        Goal("cold, evidence in the registry, time in the gate, median", gate[REMOTE.key].median, 10, "ms"),
        Goal(f"verifications for {burst.starts} starts at once", burst.verifications, 1, ""),
        Goal("gate, resident memory after the run", sizes.gate_rss / MIB, 40, "MiB"),
        Goal("hook, size of the binary", sizes.hook / MIB, 3, "MiB"),
    ]


def of_signing(seconds: Sequence[float]) -> list[Goal]:
    """Return the goals of bench.sign; ``seconds`` are those of a whole ``./inv signing.sign``."""
    return [Goal("both formats, process start included, median", stats.summary(seconds).median, 0.3, "s")]


def start_times(samples: Sequence[Sample], key: str) -> list[float]:
    """Return a variant's StartContainer times, ms, round by round."""
    return [sample.start for sample in samples if sample.variant == key]


def gate_times(samples: Sequence[Sample], key: str) -> list[float]:
    """Return a variant's times in the gate, ms."""
    return [sample.gate for sample in samples if sample.variant == key and sample.gate is not None]
