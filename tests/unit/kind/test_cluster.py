from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from countersign.console.config import Settings
from countersign.console.errors import InfrastructureError, UsageError
from countersign.console.places import KindSettings
from countersign.console.steps import NotThereYet
from countersign.nodes.template import render
from kind import cluster as clusters
from kind.cluster import LABEL, ROLE, TAINT
from kind.creation import CONFIG, Exists, Mount


def rendered(**values: Any) -> dict[str, Any]:
    given = {
        "name": "c",
        "workers": 2,
        "cgroup_v1": False,
        "sys_resource": True,
        "etcd_tag": "",
        "taint": TAINT,
        "mounts": (),
    }
    found: dict[str, Any] = yaml.safe_load(render(CONFIG, **{**given, **values}))
    return found


def test_workers_take_no_pods_before_enforcement_and_the_control_plane_is_as_kubeadm_makes_it():
    found = rendered()
    assert [node["role"] for node in found["nodes"]] == ["control-plane", "worker", "worker"]
    patches = [yaml.safe_load(node["kubeadmConfigPatches"][0]) for node in found["nodes"][1:]]
    assert {patch["nodeRegistration"]["taints"][0]["key"] for patch in patches} == {TAINT}
    assert "kubeadmConfigPatches" not in found["nodes"][0]


def test_a_machine_that_has_everything_is_asked_for_everything():
    found = rendered()
    assert "kubeadmConfigPatches" not in found
    assert "containerdConfigPatches" not in found
    assert found["featureGates"] == {"ImageVolume": True}


def test_a_machine_that_lacks_something_is_asked_for_less():
    found = rendered(cgroup_v1=True, sys_resource=False, etcd_tag="3.6.4-0")
    etcd, kubelet = (yaml.safe_load(patch) for patch in found["kubeadmConfigPatches"])
    assert etcd["etcd"]["local"]["imageTag"] == "3.6.4-0"
    assert kubelet["failCgroupV1"] is False
    assert "restrict_oom_score_adj = true" in found["containerdConfigPatches"][0]


class Engine:
    """An engine with these containers."""

    def __init__(self, *containers: Any) -> None:
        self.containers = self
        self._found = list(containers)

    def list(self, **_: Any) -> list[Any]:
        return self._found


class Container:
    def __init__(self, ident: str, name: str, role: str, status: str = "running") -> None:
        self.id, self.name, self.status = ident, name, status
        self.labels = {LABEL: "countersign", ROLE: role}


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    found = [
        Container("2", "countersign-worker", "worker"),
        Container("1", "countersign-control-plane", "control-plane"),
    ]
    monkeypatch.setattr("kind.cluster.engine.docker_client", lambda _: Engine(*found))
    (tmp_path / "kind").mkdir()
    return Settings(state=tmp_path)


def ours(settings: Settings, ident: str = "1") -> None:
    (settings.state / "kind" / "cluster.json").write_text(json.dumps({"control-plane": ident}))


def test_a_cluster_that_we_made_is_found_with_its_control_plane_first(settings):
    ours(settings)
    found = clusters.find(settings)
    assert found is not None
    assert [node.role for node in found.nodes] == ["control-plane", "worker"]
    assert [node.name for node in found.workers] == ["countersign-worker"]
    assert not Exists(settings).needed()


@pytest.mark.parametrize("content", [b"", b'{"control', b"\0\0", b"\xff"])
def test_what_was_kept_of_a_cluster_and_cut_off_is_one_line(settings, content):
    (settings.state / "kind" / "cluster.json").write_bytes(content)
    with pytest.raises(InfrastructureError, match=r"cluster\.json: cannot be read; .*; remove it"):
        clusters.find(settings)


@pytest.mark.parametrize("known", ["", "another"])
def test_a_cluster_of_that_name_that_we_did_not_make_is_refused(settings, known):
    if known:
        ours(settings, known)
    for look in (clusters.find, clusters.delete, lambda s: Exists(s).needed()):
        with pytest.raises(UsageError, match="knows nothing of; choose another name"):
            look(settings)


def test_no_cluster_is_told_with_the_way_to_one(settings, monkeypatch):
    monkeypatch.setattr("kind.cluster.engine.docker_client", lambda _: Engine())
    assert clusters.find(settings) is None
    assert Exists(settings).needed()
    with pytest.raises(NotThereYet, match=r"\./inv kind\.create"):
        clusters.require(settings)


def test_another_number_of_workers_is_refused(settings):
    ours(settings)
    with pytest.raises(UsageError, match="the cluster has 1 workers; expected 3"):
        Exists(replace(settings, kind=KindSettings(workers=3))).needed()


def test_a_node_that_is_down_is_named(settings, monkeypatch):
    ours(settings)
    down = [Container("1", "countersign-control-plane", "control-plane"), Container("2", "w", "worker", "exited")]
    monkeypatch.setattr("kind.cluster.engine.docker_client", lambda _: Engine(*down))
    found = clusters.find(settings)
    assert found is not None
    with pytest.raises(InfrastructureError, match=r"w: its container does not run; docker start w"):
        found.require_running()


def test_every_node_mounts_what_is_preinstalled_and_kind_does_not_touch_containerd_then():
    mounts = [Mount("/state/parts", "/kind/countersign"), Mount("/state/units", "/usr/local/lib/systemd/system")]
    found = rendered(mounts=mounts, sys_resource=False)
    expected = [{"hostPath": each.host, "containerPath": each.node, "readOnly": True} for each in mounts]
    assert [node["extraMounts"] for node in found["nodes"]] == [expected] * 3
    assert "containerdConfigPatches" not in found


def test_nodes_mount_nothing_when_they_are_set_up_later():
    assert all("extraMounts" not in node for node in rendered()["nodes"])
