"""A cluster of real machines without kubelets: API server, controllers, and on each machine what the chart runs."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from countersign.console.config import ROOT
from countersign.console.sources import load_settings
from countersign.enforcement.gate_client import LIMIT
from countersign.enforcement.layout import SYSTEM
from countersign.nodes.template import render
from countersign.tools.resolver import install, tool
from lab.bench.small import HERE, Small, machines
from tests.gatekeeper import cluster as clusters

COUNT = int(load_settings().tests.machines or 3)
TAINT = "countersign.dev/not-enforcing"
POLICY = "fleet"
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
IMAGE = {"name": "open.test/it:1", "digest": f"sha256:{'0' * 64}", "mediaType": "", "size": 1}


@dataclass(frozen=True)
class Fleet:
    """The cluster and its machines."""

    cluster: clusters.Cluster
    machines: list[Small]
    folder: Path

    def get(self, *words: str) -> Any:
        """Return what kubectl gets."""
        return json.loads(self.cluster.run("get", *words, "--output=json"))

    def join(self, some: list[Small]) -> None:
        """Have machines join, as kubelets register them: with the taint; then the chart's pod starts there."""
        taints = [{"key": TAINT, "value": "true", "effect": "NoExecute"}]
        self.cluster.apply([
            {"apiVersion": "v1", "kind": "Node", "metadata": {"name": one.name}, "spec": {"taints": taints}}
            for one in some
        ])  # fmt: skip
        config = yaml.safe_load(self.cluster.kubeconfig.read_text())
        server = urlsplit(config["clusters"][0]["cluster"]["server"])
        for one in some:
            unit = render(HERE / "agent.service.j2", host=server.hostname, port=server.port, name=one.name).decode()
            one.run("mkdir", "-p", ACCOUNT)
            one.run("tee", f"{ACCOUNT}/ca.crt", given=(self.folder / "ca.crt").read_text())
            one.run("tee", f"{ACCOUNT}/token", given=clusters.TOKEN)
            one.run("tee", "/etc/systemd/system/agent.service", given=unit)
            one.run("systemctl", "start", "agent")

    def nodes(self) -> dict[str, dict[str, Any]]:
        """Return the status of each CountersignNode."""
        return {each["metadata"]["name"]: each.get("status", {}) for each in self.get("countersignnodes")["items"]}

    def tainted(self) -> set[str]:
        """Return the names of the nodes with the taint."""
        found = self.get("nodes")["items"]
        return {
            one["metadata"]["name"]
            for one in found
            if any(taint["key"] == TAINT for taint in one["spec"].get("taints", []))
        }

    def policy(self, rule: str, name: str = POLICY) -> dict[str, Any]:
        """Return a policy that has one scope, with this rule."""
        spec = {"scopes": {"open.test": {rule: True}}}
        return {
            "apiVersion": "countersign.dev/v1alpha1",
            "kind": "CountersignPolicy",
            "metadata": {"name": name},
            "spec": spec,
        }

    def verdict(self, machine: Small) -> str:
        """Return the code by which a machine's own gate decides at pull; empty while it gives none."""
        pid = machine.pid()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            try:
                connection.connect(f"/proc/{pid}/root{SYSTEM.gate_socket}")
                connection.sendall(f"pull\n{json.dumps(IMAGE)}".encode())
                connection.shutdown(socket.SHUT_WR)
                with connection.makefile("rb") as stream:
                    return str(json.loads(stream.read(LIMIT).split(b"\n", 2)[2])["code"])
            except (OSError, ValueError, IndexError):
                return ""

    def asked(self) -> dict[str, int]:
        """Return how often the API server was asked for what is ours, by verb and kind."""
        found: dict[str, int] = {}
        for line in self.cluster.run("get", "--raw", "/metrics").splitlines():
            if not line.startswith("apiserver_request_total{"):
                continue
            labels = dict(part.split("=", 1) for part in line[line.index("{") + 1 : line.index("}")].split(","))
            kind = labels["resource"].strip('"')
            if kind in {"nodes", "countersignnodes", "countersignpolicies", "events"}:
                key = f"{labels['verb'].strip(chr(34))} {kind}"
                found[key] = found.get(key, 0) + int(float(line.rsplit(" ", 1)[1]))
        return found


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """The machines; none has joined yet, and one policy is for all."""
    settings, folder = load_settings(), tmp_path_factory.mktemp("fleet")
    programs = install(("countersign-gate", "countersign-hook"), settings)
    with ExitStack() as stack:
        cluster = stack.enter_context(clusters.started(settings, folder / "api"))
        manager = [str(tool("kube-controller-manager", settings)), f"--kubeconfig={cluster.kubeconfig}"]
        # taints of its own life cycle would stand beside ours: no kubelet renews leases here
        manager += ["--controllers=garbage-collector-controller", "--leader-elect=false", "--secure-port=0"]
        stack.enter_context(clusters.process(manager, folder / "controllers.log"))
        for crd in sorted((ROOT / "rollout/chart/crds").glob("*.yaml")):
            cluster.run("apply", "-f", str(crd))
        made = stack.enter_context(machines(settings, folder / "m", COUNT, tuple(programs.values())))
        found = Fleet(cluster, made, folder / "api")
        cluster.applied([found.policy("accept")])
        yield found


def until(holds: Callable[[], bool], otherwise: Callable[[], object], within: float = 60.0 + 20 * COUNT) -> float:
    """Wait for something; return the seconds that it took."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() < began + within, otherwise()
        time.sleep(0.05)
    return time.monotonic() - began
