"""What came of an engine in bench.rivals, and how its times are taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from countersign.cri.model import Container
from lab.bench.at_once import at_once
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


def burst(place: CriPlace, image: str, count: int, handler: str = "") -> float:
    """Return the seconds until the last of ``count`` containers ran, each in a pod that is there, begun at once."""
    with place.at.client() as client:
        found = client.image_status(image)
        wanted = Container(found.id if found else "", written=image, command=SLEEP)
        try:
            with ThreadPoolExecutor(PODS_AT_ONCE) as pool:
                pods = list(pool.map(lambda _: client.run_pod(handler=handler), range(count)))
            return at_once([partial(client.run, pod, wanted) for pod in pods])[0]
        finally:
            client.remove_pods()
