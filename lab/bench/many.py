"""What came of an engine in bench.rivals, and how its times are taken."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Barrier
from typing import Any

from countersign.cri.model import Container
from lab.trials.cri_place import SLEEP, CriPlace

PODS_AT_ONCE = 4


@dataclass(frozen=True)
class Engine:
    """What came of one engine.

    Attributes:
        title: as tables show it.
        ran: row → whether its container ran; rows that could not be tried there are missing.
        pulls: milliseconds of each pull.
        starts: milliseconds of each create and start.
        at_once: seconds until the last of the containers that were started at once ran; None where that was not tried.
    """

    title: str
    ran: Mapping[str, bool]
    pulls: Sequence[float] = ()
    starts: Sequence[float] = ()
    at_once: float | None = None


def timed(work: Any) -> float:
    """Return the milliseconds that something takes."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def burst(place: CriPlace, image: str, count: int, handler: str = "") -> float:
    """Return the seconds until the last of ``count`` containers ran, each in a pod that is there, begun at once."""
    together = Barrier(count + 1)
    with place.at.client() as client:
        found = client.image_status(image)
        wanted = Container(found.id if found else "", written=image, command=SLEEP)
        try:
            with ThreadPoolExecutor(PODS_AT_ONCE) as pool:
                pods = list(pool.map(lambda _: client.run_pod(handler=handler), range(count)))

            def begin(pod: Any) -> None:
                together.wait()
                client.start(client.create(pod, wanted))

            with ThreadPoolExecutor(count) as pool:
                begun = [pool.submit(begin, pod) for pod in pods]
                together.wait()
                start = time.perf_counter()
                for one in begun:
                    one.result()
                return time.perf_counter() - start
        finally:
            client.remove_pods()
