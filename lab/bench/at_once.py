"""Things that are done at the same moment, and how long things take."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

T = TypeVar("T")


def at_once(works: Sequence[Callable[[], T]]) -> tuple[float, list[T]]:
    """Begin all of it at the same moment; return the seconds until the last has ended, and what came of each."""
    together = Barrier(len(works) + 1)

    def one(work: Callable[[], T]) -> T:
        together.wait()
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        begun = [pool.submit(one, work) for work in works]
        together.wait()
        start = time.perf_counter()
        found = [each.result() for each in begun]
        return time.perf_counter() - start, found


def seconds(work: Callable[[], object]) -> float:
    """Return the seconds that something takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def blocks(rounds: int, most: int = 5) -> list[int]:
    """Return the rounds of each block: variants take turns by blocks where each needs another set-up."""
    count = min(most, rounds)
    return [rounds // count + (number < rounds % count) for number in range(count)]
