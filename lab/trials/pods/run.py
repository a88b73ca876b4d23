"""Run the scenarios on a cluster: all that disturb nothing at once, then one restart after another."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml

from countersign.console.errors import InfrastructureError
from countersign.nodes.api_server import ApiServer, ready, wait_for
from countersign.nodes.node import Node
from countersign.nodes.template import render
from lab.trials.pods.model import SUBJECT, PodRow, judge, look
from lab.trials.rows import Found, Outcome

NAMESPACE = "countersign-pods"
LABEL = "countersign-scenario"
RUNTIME_CLASS = "countersign-other"
MANIFESTS = Path(__file__).resolve().parents[3] / "shared" / "manifests" / "pods.yaml.j2"
STATIC = "/etc/kubernetes/manifests"
DECIDED_WITHIN = 120.0
BACK_WITHIN = 180.0
SETTLE = 2.0
"""Seconds that a refused pod is watched on, for it must not run later either."""
POLL = 0.4
ADMISSION = "DENIED"
DENIED = re.compile(r"admission webhook .* denied|Forbidden|Bad Request")
"""What an API server says where an engine refused; an engine that does not answer is an internal error."""


@dataclass(frozen=True)
class PodsPlace:
    """A cluster under enforcement.

    Attributes:
        worker: the node on which single pods are tried.
        node: the way to it.
        handler: a runtime handler beside the default one.
        images: (how it comes to the node, whether it is signed) → reference.
        restart: restarts ``kubelet``, ``containerd``, ``gate``, ``node`` (of the worker) or ``control-plane``.
        registry_stopped: keeps the registry of the images stopped.
        refused: what the API server did not take, by object; None where no engine at admission decides.
    """

    name: str
    api: ApiServer = field(repr=False)
    worker: str
    node: Node = field(repr=False)
    handler: str
    images: Mapping[tuple[str, bool], str] = field(repr=False)
    restart: Callable[[str], None] = field(repr=False)
    registry_stopped: Callable[[], AbstractContextManager[None]] = field(repr=False)
    refused: dict[str, Found] | None = field(default=None, repr=False)


def run(place: PodsPlace, rows: Sequence[PodRow]) -> Generator[Outcome, None, None]:
    """Run trials and yield their outcomes; whatever happens, no object of theirs stays in the cluster."""
    with _namespace(place):
        for after, group in groupby(sorted(rows, key=lambda row: row.scenario.after), lambda row: row.scenario.after):
            with _disturbed(place, after):
                yield from _together(place, list(group))


@contextmanager
def _disturbed(place: PodsPlace, after: str) -> Iterator[None]:
    """Restart what is to be restarted and wait until the cluster is whole again, or keep the registry stopped."""
    with place.registry_stopped() if after == "registry" else nullcontext():
        if after not in ("", "registry"):
            place.restart(after)
            whole(place.api)
        yield


def whole(api: ApiServer) -> None:
    """Wait until every node and every pod of the system is ready.

    Raises:
        InfrastructureError: they are not in time.
    """

    def is_whole() -> bool:
        return all(map(ready, api.nodes())) and all(map(ready, api.pods("kube-system")))

    time.sleep(SETTLE)  # what was ready before the restart still looks so for a moment
    wait_for(is_whole, "the cluster was not ready again", BACK_WITHIN)


@contextmanager
def _namespace(place: PodsPlace) -> Iterator[None]:
    path = f"/api/v1/namespaces/{NAMESPACE}"
    runtime_class = f"/apis/node.k8s.io/v1/runtimeclasses/{RUNTIME_CLASS}"
    try:
        _remove(place, path, runtime_class)
        place.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        definition = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": RUNTIME_CLASS}}
        place.api.create({**definition, "handler": place.handler})
        yield
    finally:
        _remove(place, path, runtime_class)


def _remove(place: PodsPlace, *paths: str) -> None:
    left = f"rm -f {STATIC}/{NAMESPACE}-*.yaml"  # the shell is for the pattern alone
    place.node.run(["sh", "-c", left])
    for path in paths:
        place.api.delete(path)
    for path in paths:
        wait_for(lambda gone=path: not place.api.exists(gone), f"{path} was not gone", BACK_WITHIN)  # type: ignore[misc]


def _together(place: PodsPlace, trials: Sequence[PodRow]) -> list[Outcome]:
    """Create the objects of all trials, and watch until it is known what came of each, and a little longer."""
    start = time.monotonic()
    for trial in trials:
        _create(place, trial)
    waiting = {trial.object_name: trial for trial in trials if trial.scenario.kind == "ephemeral"}
    settled: dict[str, float] = {}
    while True:
        pods = place.api.pods(NAMESPACE)
        _add_ephemeral(place, waiting, pods)
        for trial in trials:
            seen = _seen(place, trial, pods)
            if trial.object_name not in settled and seen and None not in seen:
                settled[trial.object_name] = time.monotonic() - start
        now = time.monotonic() - start
        late = now > DECIDED_WITHIN
        if late or (len(settled) == len(trials) and now > max(settled.values()) + SETTLE):
            return [
                judge(trial, _seen(place, trial, pods), _nodes(trial, pods), settled.get(trial.object_name, now))
                for trial in trials
            ]
        time.sleep(POLL)


def _create(place: PodsPlace, trial: PodRow) -> None:
    scenario = trial.scenario
    single = scenario.kind != "daemonset"
    content = render(
        MANIFESTS,
        kind=scenario.kind,
        name=trial.object_name,
        namespace=NAMESPACE,
        image=place.images[scenario.image, trial.allow],
        signed=place.images["pulled", True],
        policy=scenario.policy,
        handler=scenario.other_handler,
        node=place.worker if single and scenario.kind != "static" else "",
    )
    if scenario.kind == "static":
        place.node.put(content, f"{STATIC}/{NAMESPACE}-{trial.object_name}.yaml", 0o600)
    else:
        with at_admission(place, trial):
            place.api.create(yaml.safe_load(content))


@contextmanager
def at_admission(place: PodsPlace, trial: PodRow) -> Iterator[None]:
    """Take a refusal of the API server for the trial's outcome, where an engine at admission decides."""
    try:
        yield
    except InfrastructureError as error:
        if place.refused is None or not DENIED.search(str(error)):
            raise
        place.refused[trial.object_name] = Found(False, "admission", ADMISSION, str(error))


def _add_ephemeral(place: PodsPlace, waiting: dict[str, PodRow], pods: Sequence[Mapping[str, Any]]) -> None:
    """Give every pod that waits for one its ephemeral container, once it runs."""
    for pod in pods:
        name = pod["metadata"]["name"]
        if name in waiting and ready(pod):
            trial = waiting.pop(name)
            image = place.images[trial.scenario.image, trial.allow]
            container = {"name": SUBJECT, "image": image, "args": ["sleep"], "imagePullPolicy": trial.scenario.policy}
            with at_admission(place, trial):
                place.api.add_ephemeral(NAMESPACE, name, container)


def _own(trial: PodRow, pods: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [pod for pod in pods if pod["metadata"].get("labels", {}).get(LABEL) == trial.object_name]


def _seen(place: PodsPlace, trial: PodRow, pods: Sequence[Mapping[str, Any]]) -> list[Found | None]:
    if place.refused and trial.object_name in place.refused:
        return [place.refused[trial.object_name]]
    return [look(pod) for pod in _own(trial, pods)]


def _nodes(trial: PodRow, pods: Sequence[Mapping[str, Any]]) -> list[str]:
    return sorted({str(pod["spec"].get("nodeName", "")) for pod in _own(trial, pods)})
