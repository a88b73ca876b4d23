"""The cluster of these tests: made once, for all of them."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from countersign.console.sources import load_settings
from kind import cluster as clusters
from kind import engine
from tests.rollout.site import FILES, GOOD, NAMESPACE, OTHER, OURS, SIGNED, Site, inv, until


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A cluster without enforcement, whose worker joins with the taint, and our image on its nodes."""
    state = tmp_path_factory.mktemp("rollout")
    env = {"INVOKE_STATE": str(state), "INVOKE_KIND_CLUSTER": "rollout", "DOCKER_HOST": engine.url(load_settings())}
    try:
        inv("kind.create", env=env)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in env.items():
                patch.setenv(name, value)
            found = clusters.require(load_settings())
        archive = state / "gate.tar"
        written = json.loads(inv("rollout.image", "--name", f"{OURS}:dev", "--out", str(archive), "--json"))
        digest = written["image"].partition("@")[2]
        inv("kind.load", "--archive", str(archive), env=env)
        nodes = [each.node for each in found.nodes]
        for node in nodes:
            for name in (f"{OURS}@{digest}", GOOD, OTHER, SIGNED):
                node.run(["ctr", "--namespace", "k8s.io", "images", "tag", f"{OURS}:dev", name])
        worker = found.workers[0].node
        [control] = [each.node for each in found.nodes if each.role == "control-plane"]
        files = worker.run(["sh", "-c", FILES]).text
        site = Site(state, found.kubeconfig, control, worker, digest, files)
        until(lambda: worker.name in site.kubectl("get", "nodes", "--output=name"), "the worker does not join")
        site.kubectl("taint", "node", worker.name, "countersign/unenforced-")
        site.kubectl("taint", "node", worker.name, "countersign.dev/not-enforcing=true:NoExecute")
        site.kubectl("create", "namespace", NAMESPACE)
        yield site
    finally:
        inv("kind.delete", env=env)
