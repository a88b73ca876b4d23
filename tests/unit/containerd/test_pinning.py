from __future__ import annotations

import json
from pathlib import Path

import pytest
from invoke.config import Config
from invoke.context import MockContext
from invoke.exceptions import Exit

from containerd.pinning import pin

PAUSE = "registry.k8s.io/pause@sha256:" + "a" * 64


@pytest.fixture
def context(tmp_path: Path) -> MockContext:
    return MockContext(config=Config(overrides={"node": "kind", "state": str(tmp_path)}))


def test_what_set_up_took_is_shown_as_lines_for_the_policy(context, tmp_path, capsys):
    (tmp_path / "kind").mkdir()
    (tmp_path / "kind" / "pins.json").write_text(json.dumps([PAUSE]))
    pin(context)
    assert capsys.readouterr().out == f"  - {PAUSE}\n"
    pin(context, json=True)
    assert json.loads(capsys.readouterr().out) == {"version": "countersign.pins/v1", "pinned": [PAUSE], "new": []}


def test_nothing_taken_is_told_with_the_way_to_it(context):
    with pytest.raises(Exit, match="set-up has taken none yet; run") as caught:
        pin(context)
    assert caught.value.code == 2


def test_what_the_systems_pods_of_any_cluster_run_is_taken_from_their_kubelets(context, tmp_path, capsys, monkeypatch):
    def state(image: str, image_id: str) -> dict[str, str]:
        return {"image": image, "imageID": image_id}

    class Api:
        def pods(self, namespace: str) -> list[dict[str, object]]:
            if namespace != "kube-system":
                return []
            proxy = state("registry.k8s.io/kube-proxy:v1", "registry.k8s.io/kube-proxy@sha256:" + "b" * 64)
            docker = state("quay.io/cni:2", "docker-pullable://quay.io/cni@sha256:" + "c" * 64)
            by_hand = state("example.test/by-hand:1", "sha256:" + "d" * 64)
            return [
                {"status": {"containerStatuses": [proxy], "initContainerStatuses": [docker]}},
                {"status": {"containerStatuses": [by_hand]}},
                {},
            ]

    monkeypatch.setattr("containerd.pins.connect", lambda path: Api())
    (tmp_path / "config").write_text("")
    pin(context, kubeconfig=str(tmp_path / "config"), json=True)
    said = capsys.readouterr()
    assert json.loads(said.out)["pinned"] == [
        "quay.io/cni@sha256:" + "c" * 64,
        "registry.k8s.io/kube-proxy@sha256:" + "b" * 64,
    ]
    assert "example.test/by-hand:1: no registry's digest is known" in said.err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"kubeconfig": "/nowhere"}, "/nowhere: there is no such file"),
        ({"kubeconfig": "/nowhere", "from_node": True}, "expected one of them"),
    ],
)
def test_a_kubeconfig_that_is_none_is_told(context, options, told):
    with pytest.raises(Exit, match=told) as caught:
        pin(context, **options)
    assert caught.value.code == 2
