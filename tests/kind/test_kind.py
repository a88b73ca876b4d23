"""A Kind cluster under enforcement, from the command line: what a second set-up does, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from containerd.on_kind import OnKind
from countersign.console.config import ROOT, Settings
from countersign.console.sources import load_settings
from countersign.cri.errors import CriError
from countersign.enforcement import doctor
from countersign.enforcement.node_units import GATE
from countersign.enforcement.problem import NotEnforced
from countersign.nodes.systemd import unit_state
from kind import cluster as clusters
from kind import engine
from kind.cluster import Cluster
from lab.demo.lab import DEMO
from lab.trials.containerd_place import ContainerdPlace
from lab.trials.demo import demo_images

if TYPE_CHECKING:
    from countersign.nodes.node import Node

SIGNED = str(demo_images()[0])
ENOUGH = 20
"""How many containers are started while a gate hands over, at least."""


@pytest.fixture(scope="module")
def settings() -> Settings:
    """The configuration of this checkout: its cluster is the one that set-up made, or makes now."""
    assert inv("containerd.setup", "--on", "kind", timeout=1500).returncode == 0
    assert inv("containerd.sign", "--on", "kind").returncode == 0
    return load_settings()


@pytest.fixture
def cluster(settings: Settings) -> Cluster:
    """The cluster."""
    return clusters.require(settings)


def test_a_second_set_up_changes_nothing(settings: Settings) -> None:
    done = inv("containerd.setup", "--on", "kind", "--json")
    assert (done.returncode, json.loads(done.stdout)["changed"]) == (0, 0)


def test_everything_is_up_on_every_node(cluster: Cluster) -> None:
    done = inv("containerd.status", "--on", "kind", "--json")
    document = json.loads(done.stdout)
    assert (done.returncode, document["ok"]) == (0, True)
    assert {each["node"] for each in document["runtimes"]} == {node.name for node in cluster.nodes}


@pytest.mark.timeout(300)
def test_pods_that_are_signed_run_and_others_do_not(settings: Settings) -> None:
    done = inv("containerd.test", "--on", "kind", "--only", "pods/deployment", "--only", "pods/never")
    assert done.returncode == 0, done.stderr
    document = json.loads((settings.state / "report" / f"pods-containerd-{settings.kind.cluster}.json").read_text())
    assert {row["id"]: (row["allow"]["actual"], row["layer"]["actual"]) for row in document["rows"]} == {
        "pods/deployment/signed": (True, "create"),
        "pods/deployment/unsigned": (False, "pull"),
        "pods/never/signed": (True, "create"),
        "pods/never/unsigned": (False, "create"),
    }


@pytest.mark.parametrize(
    ("setting", "changed"),
    [
        ("discard_unpacked_layers = false", "discard_unpacked_layers = true"),
        ('base_runtime_spec = "/etc/countersign/base-test-handler.json"', 'base_runtime_spec = ""'),
    ],
)
def test_doctor_tells_a_setting_that_lets_images_past(
    settings: Settings, cluster: Cluster, setting: str, changed: str
) -> None:
    node = cluster.workers[0].node
    [machine] = [each for each in OnKind(settings, DEMO).inspect() if each.node.name == node.name]
    config = node.get("/etc/containerd/config.toml").decode()
    assert setting in config
    try:
        node.put(config.replace(setting, changed).encode(), "/etc/containerd/config.toml")
        with pytest.raises(NotEnforced, match=changed.split(" = ", maxsplit=1)[0]):
            doctor.examine(node, machine.layout)
    finally:
        node.put(config.encode(), "/etc/containerd/config.toml")
        node.run(["systemctl", "restart", "containerd"])  # the file is newer than the start before
        machine.wait_until_ready()
    doctor.examine(node, machine.layout)


def test_over_an_older_gate_set_up_has_it_hand_over(settings: Settings, cluster: Cluster) -> None:
    with ContainerdPlace(OnKind(settings, DEMO).runtime(), settings.policy) as place:
        node, layout = place.at.node, place.at.layout
        began, before = service_of(node), unit_state(node, GATE).main_pid
        node.put(node.get(layout.gate) + b"older", layout.gate, 0o755)  # what comes after an ELF is not loaded
        place.pull(SIGNED)
        reloaded = threading.Thread(target=node.run, args=(["systemctl", "reload", "--", GATE],))
        codes = [attempt(place)]
        reloaded.start()
        while len(codes) < ENOUGH or unit_state(node, GATE).main_pid == before:
            codes.append(attempt(place))
        reloaded.join()
        assert set(codes) == {""}
    older = unit_state(node, GATE).main_pid
    assert changed_by_set_up()
    assert unit_state(node, GATE).main_pid not in (0, before, older)
    assert service_of(node) == began
    assert changed_by_set_up() == []


def changed_by_set_up() -> list[str]:
    """Set the cluster up, and return the names of the steps that changed something."""
    done = inv("containerd.setup", "--on", "kind", "--json")
    assert done.returncode == 0, done.stderr
    return [step["name"] for step in json.loads(done.stdout)["steps"] if step["changed"]]


def service_of(node: Node) -> str:
    """Return what systemd gives a unit anew whenever it starts it."""
    return node.run(["systemctl", "show", "--property=InvocationID", "--", GATE]).text


def attempt(place: ContainerdPlace) -> str:
    """Start a container of the signed demo; return the code that it was refused with."""
    try:
        container = place.create(place.image_id(SIGNED), SIGNED)
        place.start(container)
    except CriError as error:
        return place.code_of(error.message) or error.message
    place.remove(container)
    return ""


def test_a_cluster_that_is_not_ours_is_refused_and_stays(settings: Settings, cluster: Cluster) -> None:
    with tempfile.TemporaryDirectory(prefix="cs-") as state:
        elsewhere = {"INVOKE_STATE": state, "DOCKER_HOST": engine.url(settings)}
        for task in (["containerd.setup", "--on", "kind"], ["kind.delete"], ["containerd.clean", "--on", "kind"]):
            done = inv(*task, env=elsewhere)
            assert done.returncode == 2, done.stderr
            assert "knows nothing of" in done.stderr
        assert list(Path(state).rglob("kubeconfig")) == []
    assert clusters.require(settings) == cluster


@pytest.mark.parametrize(
    ("env", "task", "code", "told"),
    [
        ({"INVOKE_KIND_WORKERS": "7"}, "kind.create", 2, "the cluster has 1 workers; expected 7"),
        ({"INVOKE_KIND_CLUSTER": "none-such"}, "kind.status", 4, "there is no cluster 'none-such'"),
        ({"INVOKE_KIND_CLUSTER": "UPPER"}, "kind.status", 2, "kind.cluster: got 'UPPER'"),
        ({"INVOKE_KIND_WORKERS": "many"}, "kind.status", 2, "kind.workers: got 'many'"),
        ({"DOCKER_HOST": "unix:///nonexistent.sock"}, "kind.status", 3, "no Docker Engine answers"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(
    settings: Settings, env: dict[str, str], task: str, code: int, told: str
) -> None:
    done = inv(task, env=env)
    assert done.returncode == code
    assert told in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def inv(*arguments: str, env: dict[str, str] | None = None, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """Run the tasks as a user does."""
    return subprocess.run(
        [ROOT / "inv", *arguments],
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
