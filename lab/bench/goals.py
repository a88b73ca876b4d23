"""What was aimed at, beside what came out. A goal missed is reported, and fails nothing: machines differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lab.bench import stats
from lab.bench.model import NO_OP, REMOTE, STORED, Burst, HooksOnly, Sample, Sizes

MIB = 1 << 20


@dataclass(frozen=True)
class Goal:
    """One figure and its limit.

    Attributes:
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


def of_starts(samples: Sequence[Sample], hooks: HooksOnly, burst: Burst, sizes: Sizes) -> list[Goal]:
    """Return the goals of bench.start.

    What a warm verdict adds is measured by the hooks alone, which vary by less than starts do, and is a share of a
    start under the no-op hook: machines differ by a factor of two, and both differ with them.
    """
    start = stats.summary(start_times(samples, NO_OP.key)).median
    added = [(hook - noop) / start * 100 for hook, noop in zip(hooks.hook, hooks.noop, strict=True)]
    warm = stats.summary(added)
    gate = {key: stats.summary(gate_times(samples, key)) for key in (STORED.key, REMOTE.key)}
    return [
        Goal("warm, added by the hook alone, of a start under the no-op hook, median", warm.median, 2, "%"),
        Goal("warm, added by the hook alone, of a start under the no-op hook, p99", warm.p99, 5, "%"),
        Goal("cold, evidence on the node, time in the gate, median", gate[STORED.key].median, 3, "ms"),
        Goal("cold, evidence in the registry, time in the gate, median", gate[REMOTE.key].median, 10, "ms"),
        Goal(f"verifications for {burst.starts} starts at once", burst.verifications, 1, ""),
        Goal("gate, resident memory after the run", sizes.gate_rss / MIB, 40, "MiB"),
        Goal("hook, size of the binary", sizes.hook / MIB, 3, "MiB"),
    ]


def of_signing(ours: Sequence[float], theirs: Sequence[float]) -> list[Goal]:
    """Return the goals of bench.sign.

    Args:
        ours: seconds of a whole ``./inv signing.sign``, which writes both formats.
        theirs: seconds of two ``cosign sign``, one a format.
    """
    share = stats.summary(ours).median / stats.summary(theirs).median
    return [Goal("both formats, process start included, of two cosign sign, medians", share, 0.62, "")]


def start_times(samples: Sequence[Sample], key: str) -> list[float]:
    """Return a variant's StartContainer times, ms, round by round."""
    return [sample.start for sample in samples if sample.variant == key]


def gate_times(samples: Sequence[Sample], key: str) -> list[float]:
    """Return a variant's times in the gate, ms."""
    return [sample.gate for sample in samples if sample.variant == key and sample.gate is not None]
