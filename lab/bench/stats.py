"""Order statistics: no assumption about how the times are distributed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

NORMAL_95 = 1.96


@dataclass(frozen=True)
class Summary:
    """Of a number of times: how many, the median, and the values that 95 and 99 percent do not exceed."""

    n: int
    median: float
    p95: float
    p99: float


@dataclass(frozen=True)
class Difference:
    """The median of paired differences, and between what it lies with 95 % confidence."""

    median: float
    low: float
    high: float


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least ``share`` of all do not exceed (nearest rank); there must be one."""
    return sorted(values)[max(math.ceil(share * len(values)), 1) - 1]


def summary(values: Sequence[float]) -> Summary:
    """Summarise times; there must be one."""
    return Summary(len(values), statistics.median(values), percentile(values, 0.95), percentile(values, 0.99))


def paired(values: Sequence[float], base: Sequence[float]) -> Difference:
    """Return how much ``values`` exceed ``base``, round by round.

    The bounds are order statistics of the differences (the sign test's interval, by the normal
    approximation to the binomial); with few rounds they are the extremes.
    """
    found = sorted(mine - theirs for mine, theirs in zip(values, base, strict=True))
    reach = NORMAL_95 * math.sqrt(len(found)) / 2
    low = max(math.floor(len(found) / 2 - reach), 0)
    high = min(math.ceil(len(found) / 2 + reach), len(found) - 1)
    return Difference(statistics.median(found), found[low], found[high])
