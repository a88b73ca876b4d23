"""What enforcement costs a cluster: its creation, pods one by one, many pods at once, and set-up a second time.

A cluster of its own is made, measured before and after set-up, and removed; then another one, whose nodes are
under enforcement from their first start.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from containerd.machine import Machine
from containerd.on_kind import OnKind
from countersign.console.config import Settings
from countersign.nodes.api_server import ApiServer, connect, ready, wait_for
from kind import cluster as clusters
from kind import engine
from kind.creation import Exists
from lab.bench import gauges, stats
from lab.bench.at_once import seconds
from lab.bench.goals import Goal
from lab.bench.show import goal_values, times
from lab.demo.images import push_signed
from lab.demo.keys import demo_key
from lab.demo.lab import DEMO
from lab.demo.registries import REFERRERS

NAME = "countersign-bench"
NAMESPACE = "default"
ONE, MANY = (f"{REFERRERS}/demo/bench-{each}:v1" for each in ("one", "many"))
POLL = 0.05
WITHIN = 180.0
COLUMNS = ("cluster", "n", "s")


@dataclass(frozen=True)
class Figures:
    """What was measured; times in seconds.

    Attributes:
        create: making the cluster, until its nodes are ready.
        set_up: bringing it under enforcement while it runs, proof included.
        preinstalled: making one that is under enforcement from its first start, proof included.
        second: set-up once more.
        before: creation of a pod → ready, without enforcement.
        after: the same, with it.
        at_once: how many pods of one image were created at the same moment.
        all_ready: until the last of them was ready.
        verifications: how many of that image each node's gate made.
    """

    create: float
    set_up: float
    preinstalled: float
    second: float
    changed: int
    before: tuple[float, ...]
    after: tuple[float, ...]
    at_once: int
    all_ready: float
    verifications: Mapping[str, int] = field(default_factory=dict)


def measure(settings: Settings, pods: int, at_once: int) -> dict[str, Any]:
    """Make a cluster, measure, and return the document ``countersign.bench-kind/v1``.

    Args:
        pods: how many are started one by one, before and after set-up.
        at_once: how many are then created at the same moment.
    """
    own = replace(
        settings,
        node="kind",
        state=settings.state / "bench-kind",
        kind=replace(settings.kind, cluster=NAME, workers=1, engine=engine.url(settings), preinstalled=True),
    )
    place, machine = OnKind(own, DEMO), gauges.machine()
    try:
        figures = _measure(own, place, pods, at_once)
        place.clean(plan=False)
        figures = replace(figures, preinstalled=seconds(lambda: place.setup(keep=True, plan=False)))
        versions = {f"containerd {each['version']}" for each in place.report()["runtimes"]}
        machine |= {"loadAfter": gauges.load(), "programs": ", ".join(sorted(versions))}
    finally:
        place.clean(plan=False)
    return document(figures, machine)


def _measure(settings: Settings, place: OnKind, pods: int, at_once: int) -> Figures:
    create = seconds(lambda: Exists(settings).apply())
    cluster = clusters.require(settings)
    api, worker = connect(cluster.kubeconfig), cluster.workers[0].name
    clusters.load(settings, [], [_archive(settings)])
    before = _one_by_one(api, worker, pods)
    set_up = seconds(lambda: place.setup(keep=True, plan=False))
    _sign(settings, place)
    after = _one_by_one(api, worker, pods)
    [machine] = [each for each in place.inspect() if each.node.name == worker]
    made = gauges.verifications(_metrics(machine))
    all_ready = seconds(lambda: _many(api, worker, at_once))
    verified = {worker: int(gauges.verifications(_metrics(machine)) - made)}
    start = time.monotonic()
    changed = sum(each.changed for each in place.setup(keep=True, plan=False))
    second = time.monotonic() - start
    return Figures(create, set_up, 0.0, second, changed, before, after, at_once, all_ready, verified)


def _metrics(machine: Machine) -> str:
    return machine.node.forward(machine.layout.metrics).removeprefix("unix:")


def _layouts(settings: Settings) -> dict[str, Path]:
    from countersign.oci.build import variant
    from countersign.tools.images import demo_layout

    found = {}
    for reference in (ONE, MANY):
        folder = settings.state / "images" / reference.rpartition("/")[2].partition(":")[0]
        found[reference] = folder if folder.is_dir() else variant(demo_layout(settings), folder.name, folder)
    return found


def _archive(settings: Settings) -> Path:
    from lab.trials.lab import write_archive

    path = settings.state / "bench.tar"
    write_archive(path, _layouts(settings))
    return path


def _sign(settings: Settings, place: OnKind) -> None:
    client, key = place.registry(), demo_key(settings)
    for reference, layout in _layouts(settings).items():
        push_signed(client, reference, layout, key)


def _one_by_one(api: ApiServer, worker: str, count: int) -> tuple[float, ...]:
    """Return the seconds from each pod's creation until it is ready, one pod after the other."""
    found = []
    for number in range(count + 1):
        with _pods(api, worker, ONE, [f"bench-{number}"]):
            took = seconds(lambda: _wait(api, 1))
        if number:  # the first one unpacks the image
            found.append(took)
    return tuple(found)


def _many(api: ApiServer, worker: str, count: int) -> None:
    with _pods(api, worker, MANY, [f"many-{number}" for number in range(count)]):
        _wait(api, count)


@contextmanager
def _pods(api: ApiServer, worker: str, image: str, names: Sequence[str]) -> Iterator[None]:
    for name in names:
        api.create(_pod(name, worker, image))
    try:
        yield
    finally:
        for name in names:
            api.delete(f"/api/v1/namespaces/{NAMESPACE}/pods/{name}")
        wait_for(lambda: not api.pods(NAMESPACE), "pods of the benchmark were not gone", WITHIN)


def _pod(name: str, worker: str, image: str) -> dict[str, Any]:
    container = {"name": "demo", "image": image, "imagePullPolicy": "Never"}
    spec = {"nodeName": worker, "containers": [container], "terminationGracePeriodSeconds": 0}
    spec["automountServiceAccountToken"] = False
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}


def _wait(api: ApiServer, count: int) -> None:
    def all_are() -> bool:
        found = api.pods(NAMESPACE)
        return len(found) == count and all(map(ready, found))

    wait_for(all_are, f"{count} pods were not ready", WITHIN, POLL)


def document(figures: Figures, machine: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document of bench.kind; times in seconds."""
    before, after = stats.summary(figures.before), stats.summary(figures.after)
    most = max(figures.verifications.values())
    goals = [
        Goal(
            "cluster under enforcement from its first start, over one without",
            figures.preinstalled - figures.create,
            3,
            "s",
        ),
        Goal("pod until ready, with enforcement over without, medians", after.median - before.median, 0.1, "s"),
        Goal(f"verifications a node for {figures.at_once} pods at once", most, 1, ""),
        Goal("second set-up", figures.second, 5, "s"),
        Goal("second set-up, changed", figures.changed, 0, ""),
    ]
    return {
        "version": "countersign.bench-kind/v1",
        "machine": dict(machine),
        **asdict(figures),
        "podBefore": asdict(before),
        "podAfter": asdict(after),
        "goals": goal_values(goals),
    }


def rows(document: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the table of a document of bench.kind, in the order of ``COLUMNS``."""
    return [
        ("creation", "1", f"{document['create']:.1f}"),
        ("set-up on it, proof included", "1", f"{document['set_up']:.1f}"),
        ("creation under enforcement, proof included", "1", f"{document['preinstalled']:.1f}"),
        ("set-up again", "1", f"{document['second']:.1f}"),
        ("a pod until ready, without enforcement", str(document["podBefore"]["n"]), times(document["podBefore"], 2)),
        ("a pod until ready, with enforcement", str(document["podAfter"]["n"]), times(document["podAfter"], 2)),
        (f"{document['at_once']} pods at once until ready", "1", f"{document['all_ready']:.1f}"),
    ]
