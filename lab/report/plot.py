"""The plot of start times, as coordinates for the page's SVG."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

WIDTH = 880.0
LABELS = 260.0
ROW = 34.0
TICKS = 5
TEXT = 70.0


@dataclass(frozen=True)
class Bar:
    """One variant: its title, where its median and its samples lie, and the figures in words."""

    title: str
    y: float
    median: float
    p95: float
    samples: tuple[float, ...]
    words: str


@dataclass(frozen=True)
class Plot:
    """All variants; every x is in the SVG's own units."""

    bars: tuple[Bar, ...]
    ticks: tuple[tuple[float, str], ...]
    width: float
    height: float
    rounds: int


def starts(bench: Mapping[str, Any]) -> Plot:
    """Return the plot of a document of bench.start; times in milliseconds."""
    variants = bench["variants"]
    samples = {each["key"]: [s["start"] for s in bench["samples"] if s["variant"] == each["key"]] for each in variants}
    most = max(each["start"]["p95"] for each in variants) * 1.15

    def x(millis: float) -> float:
        return float(round(LABELS + (WIDTH - LABELS - TEXT) * min(millis, most) / most, 1))

    bars = tuple(
        Bar(
            title=str(each["title"]),
            y=ROW * (number + 0.5),
            median=x(each["start"]["median"]),
            p95=x(each["start"]["p95"]),
            samples=tuple(x(sample) for sample in samples[each["key"]]),
            words=f"{each['start']['median']:.1f} ms",
        )
        for number, each in enumerate(variants)
    )
    ticks = tuple((x(most * part / TICKS), f"{most * part / TICKS:.0f}") for part in range(TICKS + 1))
    return Plot(bars, ticks, WIDTH, ROW * (len(bars) + 1), int(bench["rounds"]))
