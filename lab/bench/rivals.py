"""The bypass suite and the cost of a start, side by side: countersign, and what people do instead.

Two containerds of the bench's own are made one after the other: one as set-up makes it, which countersign's verdicts
are from, and one whose runtime handlers and verifiers are the rivals'.
"""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from countersign.console import output
from countersign.console.config import Settings
from countersign.console.errors import InfrastructureError
from countersign.cri.model import Container
from lab.bench import gauges, stats
from lab.bench.at_once import at_once as begun_together
from lab.bench.at_once import seconds
from lab.bench.rival_place import BINDIR, HOOK, NOTHING, OURS, Rival, RivalPlace
from lab.bench.testbed import Testbed, opened
from lab.demo.registries import REFERRERS
from lab.trials import bypass, matrix, model
from lab.trials.containerd_place import ContainerdPlace
from lab.trials.cri_place import SLEEP, CriPlace
from lab.trials.lab import Lab, prepare

PODS_AT_ONCE = 4
RIVALS = (NOTHING, OURS, BINDIR, HOOK)
WARM_UP = 1


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


@dataclass
class Times:
    """Figures of one rival as they come."""

    pulls: list[float] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    at_once: float | None = None


def measure(settings: Settings, rounds: int, at_once: int) -> dict[str, Any]:
    """Try and measure all engines, and return the document ``countersign.bench-rivals/v1``.

    Args:
        rounds: how often each engine pulls and starts.
        at_once: how many containers are then started at the same moment.

    Raises:
        MissingError: we are not root.
        InfrastructureError: something cannot be set up.
    """
    machine = gauges.machine()
    suite = bypass.load()
    with opened(settings, compared=False) as ours, output.progress("countersign: attacks"):
        countersign = _tried(ContainerdPlace(ours.instance, ours.settings.policy), _lab(ours), suite, exact=True)
    with opened(settings) as testbed:
        engines = list(_compared(testbed, suite, rounds, at_once, countersign))
        machine |= {"programs": _programs(testbed)}
    machine |= {"loadAfter": gauges.load()}
    return document(suite, engines, at_once, machine)


def _programs(testbed: Testbed) -> str:
    with testbed.instance.client() as client:
        containerd = client.version().version
    cosign = testbed.instance.node.run([str(testbed.programs["cosign"]), "version"]).text
    found = next((line.split()[-1] for line in cosign.splitlines() if line.startswith("GitVersion")), "?")
    return f"containerd {containerd} ({testbed.instance.snapshotter}), cosign {found}"


def _lab(testbed: Testbed) -> Lab:
    """Return the matrix's images in the bench's registries."""
    hosts = ContainerdPlace.registries
    client = testbed.instance.addition.client()
    return prepare(testbed.settings, "containerd", "rivals", hosts, client, short_names=False)


def _tried(place: CriPlace, lab: Lab, suite: bypass.Suite, *, exact: bool = False) -> dict[str, bool]:
    """Return what of the suite ran in a place: row → whether its container did.

    Raises:
        InfrastructureError: ``exact`` was asked for, and a row came out otherwise than it says.
    """
    wanted = set(suite.rows)
    cases = [case for case in place.rows(model.load()) if case.id in wanted and not place.why_not(case)]
    with place, closing(matrix.run(place, lab, cases)) as outcomes:
        found = list(outcomes)
    wrong = [outcome.row.id for outcome in found if outcome.differences]
    if exact and wrong:
        raise InfrastructureError("did not come out as the matrix says", where=", ".join(wrong), do="./inv bypass.test")
    return {outcome.row.id: outcome.found.allow for outcome in found}


def _compared(
    testbed: Testbed, suite: bypass.Suite, rounds: int, at_once: int, countersign: Mapping[str, bool]
) -> Iterator[Engine]:
    """Try the suite on each rival, then measure all of them in turns."""
    lab = _lab(testbed)
    key = testbed.settings.keys / "cosign.pub"
    shutil.copyfile(lab.folder / "keys" / "team.pub", key)  # the rivals trust whom the lab's strict policy trusts
    server = testbed.instance.addition.urls[REFERRERS].partition("://")[2]
    script = testbed.settings.state / "specs" / "cosign-hook.sh"
    cosign = (str(testbed.programs["cosign"]), str(key), REFERRERS, server, str(script))
    places = {rival: RivalPlace(testbed.instance, lab.lax, rival, cosign) for rival in RIVALS}
    ran = {OURS: dict(countersign)}
    for rival in (BINDIR, HOOK):
        with output.progress(f"{rival.title}: attacks"):
            ran[rival] = _tried(places[rival], lab, suite)
    image = f"{lab.built[f'{REFERRERS}/both'][0]}:v1"
    with output.progress(f"{rounds} rounds, and {at_once} starts at once"):
        times = _measured(places, lab, image, rounds, at_once)
    for rival in RIVALS:
        yield Engine(rival.title, ran.get(rival, {}), times[rival].pulls, times[rival].starts, times[rival].at_once)


def _measured(
    places: Mapping[Rival, RivalPlace], lab: Lab, image: str, rounds: int, at_once: int
) -> dict[Rival, Times]:
    """Pull and start an image by every rival once a round, in another order each time; then many at once."""
    times = {rival: Times() for rival in places}
    ContainerdPlace.set_policy(places[OURS], lab.strict)
    for turn in range(WARM_UP + rounds):
        for rival in random.Random(turn).sample(tuple(places), len(places)):  # noqa: S311 - an order is not a secret
            pull, start = _once(places[rival], image)
            if turn >= WARM_UP:
                times[rival].pulls.append(pull)
                times[rival].starts.append(start)
    for rival, place in places.items():
        with place:
            times[rival].at_once = burst(place, image, at_once, rival.handler)
    places[OURS].restore_policy()
    return times


def _once(place: RivalPlace, image: str) -> tuple[float, float]:
    """Return the milliseconds of a pull and of a create and start, in a pod that is there."""
    with place:
        place.check_pulls()
        place.forget(image)
        pull = seconds(lambda: place.pull(image))
        found = place.image_id(image)
        place.remove(_started(place, found, image))  # makes the pod
        began = time.perf_counter()
        container = _started(place, found, image)
        start = time.perf_counter() - began
        place.remove(container)
    return pull * 1000, start * 1000


def _started(place: CriPlace, image_id: str, written: str) -> str:
    container = place.create(image_id, written)
    place.start(container)
    return container


def document(
    suite: bypass.Suite, engines: Sequence[Engine], at_once: int, machine: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the document of bench.rivals; pulls and starts in milliseconds, many at once in seconds."""
    return {
        "version": "countersign.bench-rivals/v1",
        "machine": dict(machine),
        "atOnce": at_once,
        "attacks": [each.model_dump() for each in suite.attacks],
        "honest": [each.model_dump() for each in suite.honest],
        "engines": [
            {
                "title": each.title,
                "ran": dict(each.ran),
                "pull": asdict(stats.summary(each.pulls)) if each.pulls else None,
                "start": asdict(stats.summary(each.starts)) if each.starts else None,
                "atOnce": each.at_once,
            }
            for each in engines
        ],
        "goals": [],
    }


def burst(place: CriPlace, image: str, count: int, handler: str = "") -> float:
    """Return the seconds until the last of ``count`` containers ran, each in a pod that is there, begun at once."""
    with place.at.client() as client:
        found = client.image_status(image)
        wanted = Container(found.id if found else "", written=image, command=SLEEP)
        try:
            with ThreadPoolExecutor(PODS_AT_ONCE) as pool:
                pods = list(pool.map(lambda _: client.run_pod(handler=handler), range(count)))
            return begun_together([partial(client.run, pod, wanted) for pod in pods])[0]
        finally:
            client.remove_pods()
