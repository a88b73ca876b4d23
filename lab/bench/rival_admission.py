"""The bypass suite on a cluster, side by side: countersign on its nodes, and engines that judge at the API server.

While an engine at admission is tried, the nodes' gates accept everything: what it lets through then runs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from admission.engine import pod
from admission.engines import engine_of
from countersign.console import output
from countersign.console.errors import InfrastructureError
from countersign.console.steps import run_steps
from countersign.nodes.api_server import wait_for
from lab.bench import gauges, rivals
from lab.bench.rivals import Engine
from lab.trials import admission, bypass, kind_pods, lab, matrix, model
from lab.trials.demo import demo_images
from lab.trials.pods import model as pods
from lab.trials.pods.run import NAMESPACE, run

if TYPE_CHECKING:
    from admission.engine import AtAdmission
    from containerd.on_kind import OnKind
    from lab.trials.cri_place import CriPlace
    from lab.trials.model import Case
    from lab.trials.pods.model import PodRow
    from lab.trials.rows import Outcome

ENGINES = ("kyverno", "gatekeeper")
STARTS_WITHIN = 300.0
POLL = 0.05


@dataclass(frozen=True)
class Tried:
    """What of the suite an API server can see.

    Attributes:
        cases: images in a registry, which a pod names.
        pods: ways in which a pod comes about.
    """

    cases: Sequence[Case]
    pods: Sequence[PodRow]


def measure(place: OnKind, trials: CriPlace, rounds: int, at_once: int) -> dict[str, Any]:
    """Try and measure all engines, and return the document ``countersign.bench-admission/v1``.

    Args:
        place: the cluster under enforcement, without an engine at admission.
        trials: where the matrix runs on it.
        rounds: how often each engine has a pod start.
        at_once: how many pods are then created at the same moment.

    Raises:
        InfrastructureError: an engine is there already, or countersign itself did not do as the matrix says.
    """
    machine = gauges.machine()
    known = {name: engine_of(name, place.settings) for name in ENGINES}
    for name, engine in known.items():
        if engine.existed():
            raise InfrastructureError(f"{engine.title} is there", do=f"./inv admission.clean --engine {name}")
    suite = bypass.load()
    wanted = set(suite.rows)
    tried = Tried(
        [row for row in model.load() if row.id in wanted and row.way == "pull"],
        [row for row in pods.load() if row.id in wanted],
    )
    engines = [_countersign(place, trials, tried, rounds, at_once)]
    for engine in known.values():
        engines.extend(_engine(place, engine, tried, rounds, at_once, first=engine is known[ENGINES[0]]))
    machine |= {"loadAfter": gauges.load(), "programs": _programs(known.values())}
    honest = tuple(each for each in suite.honest if each.row in {row.id for row in tried.cases})
    found = rivals.document(suite.model_copy(update={"honest": honest}), engines, at_once, machine)
    return found | {"version": "countersign.bench-admission/v1"}


def _programs(engines: Any) -> str:
    return ", ".join(f"{engine.title} {engine.version}" for engine in engines)


def _countersign(place: OnKind, trials: CriPlace, tried: Tried, rounds: int, at_once: int) -> Engine:
    """Try the rows on the nodes alone, and measure what pods cost there."""
    images = lab.of(place.settings, trials)
    with output.progress("countersign: attacks"):
        with trials, closing(matrix.run(trials, images, tried.cases)) as found:
            outcomes: list[Outcome] = list(found)
        series = kind_pods.series(place)  # under the user's policy again
        started = list(series.attempt(tried.pods))
        late = [each.row for each in started if _wrong(each)]
        if late:  # kubelets of a busy machine
            output.warn(f"tried once more: {', '.join(row.id for row in late)}")
            started = [each for each in started if not _wrong(each)] + list(series.attempt(late))
        outcomes += started
    wrong = [each.row.id for each in outcomes if _wrong(each)]
    if wrong:
        raise InfrastructureError("did not come out as the rows say", where=", ".join(wrong), do="./inv bypass.test")
    ran = {each.row.id: each.found.allow for each in outcomes}
    return _timed("countersign, on the nodes", ran, engine_of(ENGINES[0], place.settings), rounds, at_once)


def _wrong(outcome: Outcome) -> bool:
    """Say whether another verdict came out; the layer is another one where a former run left the image on the node."""
    return any(" decided, expected " not in each for each in outcome.differences)


def _engine(
    place: OnKind, engine: AtAdmission, tried: Tried, rounds: int, at_once: int, *, first: bool
) -> Iterator[Engine]:
    """Bring an engine to the cluster, try and measure it with gates that accept everything, and take it away."""
    images = admission.images(engine)
    with admission.gates_policy(engine, images.lax):
        if first:
            yield _timed("nothing (gates that accept all)", {}, engine, rounds, at_once)
        try:
            run_steps(engine.steps())
            engine.prove()
            with output.progress(f"{engine.title}: attacks"):
                ran = dict(_pods(place, tried.pods))
                with engine.policy(images.strict), admission.namespace(engine):
                    ran |= {case.id: admission.review(engine, images, case).allow for case in tried.cases}
            title = engine.title if engine.name == "kyverno" else f"{engine.title}, our provider"
            yield _timed(title, ran, engine, rounds, at_once)
        finally:
            run_steps([engine.removed()])


def _pods(place: OnKind, rows: Sequence[PodRow]) -> Iterator[tuple[str, bool]]:
    """Say of each row whether its container ran. Of a static pod the API server may know nothing: the node does."""
    known = kind_pods.KindPods(
        place.settings, place.cluster(), place.workers(), place.docker, place.registry, place.load
    )
    opened = replace(known.opened(), refused={})
    running: set[str] = set()
    with closing(run(opened, rows)) as outcomes:
        for number, outcome in enumerate(outcomes):
            if number == 0:
                with known.workers[0].client() as client:
                    running = {written for written, _ in client.running_images(NAMESPACE)}
            row = next(each for each in rows if each.id == outcome.row.id)
            static = row.scenario.kind == "static"
            image = opened.images[row.scenario.image, row.allow]
            yield row.id, image in running if static else outcome.found.allow


def _timed(title: str, ran: Mapping[str, bool], engine: AtAdmission, rounds: int, at_once: int) -> Engine:
    """Measure how long signed pods take from their creation until they run, one by one, and then many at once."""
    image = str(demo_images()[0])
    with output.progress(f"{title}: {rounds} pods, and {at_once} at once"), admission.namespace(engine):
        _seconds(engine, ["warm-up"], image)
        starts = [_seconds(engine, [f"round-{number}"], image) * 1000 for number in range(rounds)]
        many = _seconds(engine, [f"many-{number}" for number in range(at_once)], image)
    return Engine(title, ran, [], starts, many)


def _seconds(engine: AtAdmission, names: Sequence[str], image: str) -> float:
    """Create pods, and return the seconds until the last of them ran."""

    def create(name: str) -> None:
        answer = engine.review(image, name, admission.NAMESPACE, dry_run=False)
        if not answer.allow:
            raise InfrastructureError(f"a signed pod was refused: {answer.message}", where=f"pod {name}")

    def run_all() -> bool:
        running = [each for each in engine.kube.pods(admission.NAMESPACE) if each["status"].get("phase") == "Running"]
        return {each["metadata"]["name"] for each in running} >= set(names)

    began = time.perf_counter()
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(create, names))
    wait_for(run_all, "the pods did not run", STARTS_WITHIN, pause=POLL)
    seconds = time.perf_counter() - began
    engine.kube.delete([pod(name, admission.NAMESPACE, image) for name in names])
    return seconds
