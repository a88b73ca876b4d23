"""A cluster whose node refuses what is not signed from its first start: made here, tried while it comes up, removed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from containerd.on_kind import OnKind
from containerd.preinstalled import MARKER
from countersign.console.config import Settings
from countersign.console.errors import CountersignError
from countersign.console.sources import load_settings
from countersign.console.steps import StepResult
from countersign.enforcement.layout import SYSTEM
from countersign.nodes.api_server import ApiServer, connect, ready, wait_for
from countersign.nodes.docker import DockerNode
from kind import cluster as clusters
from kind import engine
from lab.demo.keys import demo_key
from lab.demo.lab import DEMO
from lab.demo.registries import REFERRERS
from lab.trials.lab import write_archive

if TYPE_CHECKING:
    from countersign.nodes.node import Node

NAME = "countersign-preinstall"
NODE = f"{NAME}-control-plane"
REPOSITORY = f"{REFERRERS}/demo/preinstalled"
SIGNED, UNSIGNED = f"{REPOSITORY}-signed:v1", f"{REPOSITORY}-unsigned:v1"
EARLY = "early"
ADMIN = "/etc/kubernetes/super-admin.conf"
MADE_WITHIN = 240.0
AT_RUN_TIME = ("gate", "policy", "containerd", "verifier", "unit", "sandbox", "pinned", "kubelet")
"""Words in the names of the steps that a node of a running cluster would need."""


@dataclass(frozen=True)
class Cluster:
    """The cluster as it came up.

    Attributes:
        settings: its own.
        place: its place.
        results: of its first set-up.
        asked_at: when the API server took the unsigned pod, seconds since the epoch.
        done_at: when set-up ended.
    """

    settings: Settings
    place: OnKind
    results: list[StepResult]
    asked_at: float
    done_at: float

    @property
    def node(self) -> Node:
        """Its one node."""
        return clusters.require(self.settings).nodes[0].node

    @property
    def api(self) -> ApiServer:
        """Its API server."""
        return connect(clusters.require(self.settings).kubeconfig)

    def verdicts(self) -> list[dict[str, Any]]:
        """Return all verdicts of the node's gate, the oldest first."""
        return [json.loads(line) for line in self.node.get(SYSTEM.verdicts).splitlines()]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Make the cluster, and an unsigned pod as soon as the API server takes one."""
    users = load_settings()
    settings = replace(
        users,
        node="kind",
        state=users.state / "preinstalled",
        kind=replace(users.kind, cluster=NAME, workers=0, engine=engine.url(users), preinstalled=True),
    )
    place = OnKind(settings, DEMO)
    archive = tmp_path_factory.mktemp("preinstalled") / "images.tar"
    write_archive(archive, _layouts(settings))
    try:
        with ThreadPoolExecutor(1) as pool:
            making = pool.submit(place.setup, keep=True, plan=False)
            node = DockerNode(NODE, NODE, lambda: engine.docker_client(settings))
            asked_at = _as_soon_as_it_can(node, archive, making)
            results = making.result(MADE_WITHIN)
        yield Cluster(settings, place, results, asked_at, time.time())
    finally:
        place.clean(plan=False)


def _layouts(settings: Settings) -> dict[str, Path]:
    from countersign.oci.build import variant
    from countersign.tools.images import demo_layout

    found = {}
    for reference in (SIGNED, UNSIGNED):
        folder = settings.state / "images" / reference.rpartition("/")[2].partition(":")[0]
        found[reference] = folder if folder.is_dir() else variant(demo_layout(settings), folder.name, folder)
    return found


def _as_soon_as_it_can(node: Node, archive: Path, making: Future[Any]) -> float:
    """Import images as soon as containerd answers, create the pod as soon as the API server takes it; return when."""
    _retry(lambda: node.put(archive, "/images.tar"), making)
    _retry(lambda: node.run(["ctr", "--namespace=k8s.io", "images", "import", "/images.tar"]), making)
    pod = json.dumps(_pod(EARLY, UNSIGNED)).encode()
    _retry(lambda: node.run(["kubectl", f"--kubeconfig={ADMIN}", "create", "-f", "-"], input=pod), making)
    return time.time()


def _retry(work: Any, making: Future[Any]) -> None:
    """Do it again until it is done; an API server that just started may answer Forbidden for seconds."""
    while not _done(work):
        assert not making.done(), making.result()
        time.sleep(0.1)


def _done(work: Any) -> bool:
    try:
        work()
    except CountersignError:
        return False
    return True


def _pod(name: str, image: str) -> dict[str, Any]:
    container = {"name": "demo", "image": image, "imagePullPolicy": "Never"}
    spec = {"nodeName": NODE, "hostNetwork": True, "containers": [container], "terminationGracePeriodSeconds": 0}
    spec |= {"automountServiceAccountToken": False, "tolerations": [{"operator": "Exists"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": spec}


def _ever_ran(pod: dict[str, Any]) -> bool:
    [found] = pod["status"]["containerStatuses"]
    states = [found.get("state", {}), found.get("lastState", {})]
    ended = [state["terminated"] for state in states if "terminated" in state]
    # one that runc refused to start has "started" at the epoch
    return any("running" in state for state in states) or any(
        not str(each.get("startedAt") or "1970").startswith("1970") for each in ended
    )


@pytest.mark.timeout(400)
def test_an_unsigned_pod_that_the_api_server_takes_at_once_never_runs(cluster: Cluster) -> None:
    assert cluster.asked_at < cluster.done_at - 5, "the cluster was not done by far"
    wait_for(lambda: bool(_early(cluster)), "the gate was not asked", 60)
    refused = _early(cluster)
    assert {(each["layer"], each["allow"]) for each in refused} == {("create", False)}
    assert {each["code"] for each in refused} <= {"UNSIGNED", "REGISTRY_ERROR", "NO_EVIDENCE_OFFLINE"}
    [pod] = [each for each in cluster.api.pods("default") if each["metadata"]["name"] == EARLY]
    assert not _ever_ran(pod)


def _early(cluster: Cluster) -> list[dict[str, Any]]:
    return [each for each in cluster.verdicts() if each.get("pod", "").endswith(EARLY)]


def test_the_gate_judged_every_container_from_the_first_start(cluster: Cluster) -> None:
    found = cluster.verdicts()
    assert {each["code"] for each in found if each.get("pod", "").startswith("kube-system/")} == {"PINNED_DIGEST"}
    first = next(each for each in found if each["layer"] == "create")
    assert first["pod"].startswith("kube-system/")
    machine = cluster.place.inspect()[0]
    known = machine.ctr(["containers", "ls", "-q", 'labels."io.cri-containerd.kind"==container']).text.split()
    assert known

    def judged() -> bool:  # one that was just made is judged when it starts
        return set(known) <= {each["container"] for each in cluster.verdicts() if each["layer"] == "create"}

    wait_for(judged, "a container came to be unseen", 60)


def test_set_up_found_nothing_left_to_do_on_the_node(cluster: Cluster) -> None:
    changed = [each.name for each in cluster.results if each.changed]
    assert [name for name in changed if name.startswith("cluster ")], "it made the cluster"
    assert [name for name in changed if any(word in name for word in AT_RUN_TIME)] == []


@pytest.mark.timeout(300)
def test_a_signed_pod_runs_and_its_unsigned_twin_is_refused(cluster: Cluster) -> None:
    from countersign.oci.layout import push
    from countersign.oci.reference import parse
    from signing import sign

    client, key = cluster.place.registry(), demo_key(cluster.settings)
    for reference, layout in _layouts(cluster.settings).items():
        push(client, parse(reference).name, layout, "v1")
    for target in sign.targets(client, parse(SIGNED)):
        sign.sign(client, parse(SIGNED).name, target, key)
    api = cluster.api
    for name, image in (("signed", SIGNED), ("unsigned", UNSIGNED)):
        api.create(_pod(name, image))

    def pods() -> dict[str, dict[str, Any]]:
        return {each["metadata"]["name"]: each for each in api.pods("default")}

    def codes() -> set[str]:
        return {each["code"] for each in cluster.verdicts() if each.get("pod") == "default/unsigned"}

    wait_for(lambda: ready(pods()["signed"]), "the signed pod did not run", 60)
    wait_for(lambda: bool(codes()), "the gate was not asked", 60)
    assert codes() == {"UNSIGNED"}
    assert not _ever_ran(pods()["unsigned"])


@pytest.mark.timeout(400)
def test_it_holds_when_the_node_starts_again(cluster: Cluster) -> None:
    laid_out = cluster.node.run(["stat", "-c", "%Y", MARKER]).text
    engine.docker_client(cluster.settings).containers.get(NODE).restart(timeout=20)
    wait_for(lambda: bool(cluster.api.nodes()), "the API server did not answer again", 120)
    wait_for(lambda: all(map(ready, cluster.api.nodes())), "the node was not ready again", 120)
    again = cluster.place.setup(keep=True, plan=False)
    assert [each.name for each in again if each.changed] == []
    assert cluster.node.run(["stat", "-c", "%Y", MARKER]).text == laid_out
