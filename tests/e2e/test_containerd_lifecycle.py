"""Set-up and clean of a real private containerd: what they change, what they leave, and what they survive."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from containerd.instance import Instance, instance
from countersign.console.config import ROOT
from countersign.enforcement.problem import NotEnforced
from countersign.nodes import cgroup, service
from countersign.nodes.service import Service
from lab.bench.gauges import metrics
from tests.e2e import footprint

pytestmark = [pytest.mark.root, pytest.mark.e2e, pytest.mark.timeout(600)]


def inv(state: Path, task: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(ROOT / "inv"), task, *options],
        env={**os.environ, "INVOKE_NODE": "host", "INVOKE_STATE": str(state), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def set_up(state: Path) -> dict[str, Any]:
    done = inv(state, "containerd.setup", "--json")
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    """Have every tool built first: builds have temporary files of their own."""
    with temporary_state() as state:
        assert inv(state, "containerd.setup", "--plan").returncode == 0


@contextmanager
def temporary_state() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="cs-"))  # short: sockets lie below it
    try:
        yield folder
    finally:
        assert inv(folder, "containerd.clean").returncode == 0
        shutil.rmtree(folder)


@pytest.fixture
def state() -> Iterator[Path]:
    with temporary_state() as folder:
        yield folder


@pytest.fixture(scope="module")
def shared() -> Iterator[Instance]:
    """An instance for tests that leave it as they found it."""
    with temporary_state() as folder:
        set_up(folder)
        yield instance(folder)


def test_a_plan_changes_nothing(state):
    document = json.loads(inv(state, "containerd.setup", "--plan", "--json").stdout)
    assert document["changed"] > 10
    assert not (state / "host").exists()


def test_everything_is_in_the_state_folder_and_clean_takes_it_away(state):
    ours = instance(state)
    before = footprint.take(instance(state).cgroup)
    set_up(state)
    with ours.client() as client:
        client.run_pod()
        during = footprint.take(instance(state).cgroup)
        assert during.beside(before, str(state), ours.cgroup) == footprint.NOTHING
        assert not any(str(state) in mount for mount in during.mounts), "mounts are the daemon's own"
        assert len(footprint.processes(state)) >= 8
        assert cgroup.members(ours.cgroup)
        assert inv(state, "containerd.clean").returncode == 0
        after = footprint.take(instance(state).cgroup)
    assert after.beside(before) == footprint.NOTHING
    assert before.beside(after) == footprint.NOTHING
    assert footprint.processes(state) == []
    assert not (state / "host").exists()


def test_a_second_set_up_changes_nothing(shared):
    document = set_up(shared.state)
    assert document["changed"] == 0
    assert [step["name"] for step in document["steps"] if step["changed"]] == []


def test_status_knows_that_all_is_well(shared):
    done = inv(shared.state, "containerd.status", "--json")
    document = json.loads(done.stdout)
    assert done.returncode == 0
    assert document["ok"]
    [runtime] = document["runtimes"]
    assert runtime["version"]
    assert runtime["policy"].startswith("sha256:")
    assert {entry["state"] for entry in document["services"]} == {"running"}


def test_a_changed_file_is_mended_by_the_next_set_up(shared):
    config = Path(shared.config)
    config.write_text(config.read_text() + "\n# changed by hand\n")
    document = set_up(shared.state)
    assert [step["name"] for step in document["steps"] if step["changed"]] == [
        f"configuration of containerd ({shared.config})",
        "containerd runs",
    ]
    assert "changed by hand" not in config.read_text()


def test_a_containerd_that_read_a_tampered_configuration_is_mended_by_the_next_set_up(shared):
    config = Path(shared.config)
    config.write_text("\n".join(line for line in config.read_text().splitlines() if "base_runtime_spec" not in line))
    first = service.state(shared.run, "containerd")
    service.signal_child(shared.run, "containerd", signal.SIGKILL)
    await_(lambda: service.state(shared.run, "containerd").restarts > first.restarts)
    await_(lambda: service.state(shared.run, "containerd").state == "running")
    with pytest.raises(NotEnforced):
        shared.prove()
    set_up(shared.state)
    shared.prove()


def test_a_containerd_that_dies_comes_back_and_its_pods_live_on(shared):
    with shared.client() as client, client.pod() as pod:
        first = service.state(shared.run, "containerd")
        service.signal_child(shared.run, "containerd", signal.SIGKILL)
        await_(lambda: service.state(shared.run, "containerd").restarts > first.restarts)
        await_(lambda: service.state(shared.run, "containerd").state == "running")
        with shared.client() as again:
            assert pod.id in again.list_pods()
            assert again.conditions().keys() <= {"ContainerdHasNoDeprecationWarnings"}


def test_two_instances_stand_side_by_side(shared, state):
    set_up(state)
    other = instance(state)
    assert other.cgroup != shared.cgroup
    with other.client() as client, client.pod() as pod, shared.client() as first:
        assert pod.id not in first.list_pods()
    assert inv(state, "containerd.clean").returncode == 0
    assert inv(shared.state, "containerd.status").returncode == 0


def test_clean_after_everything_was_killed(state):
    before = footprint.take(instance(state).cgroup)
    set_up(state)
    ours = instance(state)
    with ours.client() as client:
        client.run_pod()
    for member in cgroup.members(ours.cgroup):
        member.send(signal.SIGKILL)
    assert inv(state, "containerd.status").returncode == 4
    assert inv(state, "containerd.clean").returncode == 0
    assert footprint.take(instance(state).cgroup).beside(before) == footprint.NOTHING
    assert not (state / "host").exists()


def test_clean_after_a_set_up_that_was_killed_half_way(state):
    before = footprint.take(instance(state).cgroup)
    with half_way(state) as half:
        os.killpg(half.pid, signal.SIGKILL)
    assert inv(state, "containerd.clean").returncode == 0
    assert footprint.take(instance(state).cgroup).beside(before) == footprint.NOTHING
    assert footprint.processes(state) == []


def test_an_interrupted_set_up_cleans_up_behind_itself(state):
    ours = instance(state)
    with half_way(state) as half:
        half.send_signal(signal.SIGINT)
        assert half.wait(60) == 130
    assert not ours.root.exists()
    assert not cgroup.exists(ours.cgroup)


def test_a_port_that_is_taken_is_told(state):
    set_up(state)
    ours = instance(state)
    ports = json.loads((ours.root / "registry" / "registries.json").read_text())["ports"]
    service.stop(ours.run, "registry")
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", ports["registry.countersign.test"]))
        other.listen()
        done = inv(state, "containerd.setup")
    assert done.returncode == 4
    assert done.stderr.count("\n") == 1
    assert (
        f"port {ports['registry.countersign.test']} of the registry registry.countersign.test is taken" in done.stderr
    )


@contextmanager
def half_way(state: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a set-up that has started the gate, and not yet containerd."""
    with subprocess.Popen(
        # a shell's background job, such as CI's, starts with SIGINT ignored, and so would what is interrupted here
        ["env", "--default-signal=INT", str(ROOT / "inv"), "containerd.setup"],
        env={**os.environ, "INVOKE_NODE": "host", "INVOKE_STATE": str(state)},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as started:
        await_(lambda: service.state(instance(state).run, "gate").state == "running")
        yield started


SWITCHES = {
    "use_local_image_pull": ("use_local_image_pull = false", "use_local_image_pull = true"),
    "discard_unpacked_layers": ("discard_unpacked_layers = false", "discard_unpacked_layers = true"),
    "disable_snapshot_annotations": ("disable_snapshot_annotations = true", "disable_snapshot_annotations = false"),
    "max_concurrent_downloads": ("max_concurrent_downloads = 3", "max_concurrent_downloads = 4"),
    "max_verifiers": ("max_verifiers = 1", "max_verifiers = 0"),
    "bin_dir": ("bin_dir = ", "bin_dir = '/nowhere' # "),
    "disabled_plugins": ("imports = []", 'disabled_plugins = ["io.containerd.image-verifier.v1.bindir"]'),
}


@pytest.mark.parametrize("switch", SWITCHES)
def test_both_doctor_and_canary_see_a_verifier_that_is_switched_off(shared, switch):
    with reconfigured(shared, *SWITCHES[switch]):
        with pytest.raises(NotEnforced, match=switch):
            shared.prove()
        with pytest.raises(NotEnforced, match=r"pull of \S+ is allowed"):
            shared.tried()
    shared.prove()


def test_both_doctor_and_canary_see_a_handler_without_the_hook(shared):
    text = Path(shared.config).read_text()
    last = next(line for line in reversed(text.splitlines()) if "base_runtime_spec" in line)
    with reconfigured(shared, last, "", count=-1):
        with pytest.raises(NotEnforced, match="handler runc-alt: base_runtime_spec is empty"):
            shared.prove()
        with pytest.raises(NotEnforced, match=r"runc-alt is refused with: .* GATE_DOWN"):
            shared.tried()
    shared.prove()


NRI = {
    "enable": ("enable = true", "enable = false"),
    "required_plugins": ('required_plugins = ["countersign"]', "required_plugins = []"),
    "annotation": ('tolerate_missing_plugins_annotation = ""', 'tolerate_missing_plugins_annotation = "waive.me"'),
}


@pytest.mark.parametrize("switch", NRI)
def test_doctor_sees_a_containerd_that_does_not_require_the_gate(shared, switch):
    with reconfigured(shared, *NRI[switch]), pytest.raises(NotEnforced, match=switch):
        shared.prove()
    shared.prove()


def test_the_gate_itself_reports_a_handler_without_the_hook(shared):
    text = Path(shared.config).read_text()
    last = next(line for line in reversed(text.splitlines()) if "base_runtime_spec" in line)
    with reconfigured(shared, last, "", count=-1):
        await_(lambda: metrics(shared.layout.metrics)["countersign_handlers_without_hook"] == 1)
        log = Path(shared.layout.log, "gate.log").read_text()
        assert 'handler \\"runc-alt\\": base_runtime_spec is empty' in log
    await_(lambda: metrics(shared.layout.metrics)["countersign_handlers_without_hook"] == 0)


@contextmanager
def reconfigured(ours: Instance, old: str, new: str, count: int = 1) -> Iterator[None]:
    """Run containerd with one setting changed."""
    config = Path(ours.config)
    text = config.read_text()
    head, found, tail = text.rpartition(old) if count < 0 else text.partition(old)
    assert found
    config.write_text(head + new + tail)
    restart(ours)
    try:
        yield
    finally:
        config.write_text(text)
        restart(ours)


def restart(ours: Instance) -> None:
    spec = Service.from_json((ours.run / "containerd.json").read_text())
    service.start(spec)
    ours.wait_for_plugin()


def await_(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
