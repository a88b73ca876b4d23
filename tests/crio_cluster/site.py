"""A cluster whose node runs CRI-O and knows nothing of us, and the ways to it."""

from __future__ import annotations

import itertools
import json
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from countersign.console.config import Settings
from countersign.nodes.facts import ARCHITECTURES
from countersign.nodes.node import Node
from countersign.oci import layout
from countersign.oci.build import write_layout
from countersign.oci.reference import parse
from countersign.oci.registry import Registry
from countersign.tools.resolver import install
from rollout.image import GATE, HOOK
from tests.crio_cluster import control_plane
from tests.crio_cluster import node as nodes
from tests.rollout.site import Cluster, inv, until
from tests.vagrant import own

NODE = "crio-1"
OURS = f"{own.NAME}/countersign/gate"
SIGNED = "{anyOf: [own]}"
"""The rule of a user who signs."""
SERIALS = itertools.count(1)
EVERY = (
    r"find /etc /usr/local /opt -xdev -type f -printf '%p %m %U %G %T@\n' | sort; "
    "find /etc /usr/local /opt -xdev -type f -print0 | sort -z | xargs -0 sha256sum; "
    "find /etc /usr/local /opt -xdev -type d | sort"
)
"""All that a machine has where we could put something: content, owners, modes and times."""


@dataclass(frozen=True)
class Site(Cluster):
    """The cluster; its control plane runs on this host.

    Attributes:
        settings: by which the machine is reached.
        node: the machine.
        users: the registry, with images of a user's, and a policy.
        gates: digests of two images of ours: today's, and a newer one.
        files: what the machine had before us, in full.
    """

    settings: Settings
    node: Node
    users: own.Own
    gates: tuple[str, str]
    files: str

    def every(self) -> str:
        """Return what the machine has now, as `files` is."""
        return self.node.run(["sh", "-c", EVERY]).text

    def status(self) -> dict[str, Any]:
        """Return the status of the node's CountersignNode; empty where there is none."""
        return self.nodes().get(NODE, {})

    def install(self, *more: str, gate: int = 0) -> str:
        """Install the chart, or upgrade it, with the policy that was rendered last; fails the test where Helm fails."""
        policy = self.users.folder / "gate.json"
        if not policy.exists():
            self.rendered(SIGNED)
        values = [f"image.repository={OURS}", f"image.digest={self.gates[gate]}", "every=2s"]
        words = [word for value in values for word in ("--set", value)]
        done = self.upgrade(*words, "--set-file", f"policy.content={policy}", "--timeout", "90s", *more)
        assert done.returncode == 0, f"{done.stderr}\n{self.status()}"
        return done.stdout

    def rendered(self, rule: str, engine: str = "gate") -> Path:
        """Write a rendered policy with a rule for the user's images; ours are pinned, and its serial is the next."""
        lines = ["apiVersion: countersign/v1", "default: reject", "roots: {own: {publicKey: {files: [own.pub]}}}"]
        lines += ["pinned:", *(f"  - {OURS}@{digest}" for digest in self.gates), "scopes:"]
        lines.append(f"  {own.NAME}/team: {rule}")
        written, rendered = self.users.folder / "cluster.yaml", self.users.folder / f"{engine}.json"
        written.write_text("\n".join(lines) + "\n", encoding="utf-8")
        document = json.loads(inv("policy.render", "--policy", str(written), "--engine", engine))
        (document["spec"] if engine == "cluster" else document)["serial"] = next(SERIALS)
        rendered.write_text(json.dumps(document), encoding="utf-8")
        return rendered

    def pod(self, name: str, image: str, pull: str = "IfNotPresent", **spec: object) -> dict[str, Any]:
        """Make a pod on the node, past the scheduler, and return its container's state once it runs or is refused."""
        self.kubectl("apply", "--filename=-", document=manifest(name, image, pull, nodeName=NODE, **spec))
        found: dict[str, Any] = {}

        def settled() -> bool:
            statuses = self.get("pod", name)["status"].get("containerStatuses", [])
            found.clear()
            found.update(statuses[0]["state"] if statuses else {})
            return "running" in found or found.get("waiting", {}).get("reason", "ContainerCreating") not in WAITS

        until(settled, f"{name} neither runs nor is refused")
        self.kubectl("delete", "pod", name, "--now", "--wait=false")
        return found


WAITS = ("ContainerCreating", "PodInitializing")


def manifest(name: str, image: str, pull: str = "IfNotPresent", **spec: object) -> dict[str, Any]:
    """Return a pod whose only container sleeps."""
    container = {"name": "it", "image": image, "imagePullPolicy": pull, "args": ["sleep"]}
    whole = {"automountServiceAccountToken": False, "containers": [container], "terminationGracePeriodSeconds": 1}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": whole | spec}


@contextmanager
def enrolled(settings: Settings, node: Node, folder: Path) -> Iterator[Site]:
    """Make the machine, whose CRI-O runs, the node of a cluster."""
    here = folder / "control-plane"
    with own.own(settings, node, folder) as users, own.known_to_crio(node, users.location):
        gates = _gates(settings, folder)
        with control_plane.started(settings, here, _gateway(settings), NODE) as server:
            nodes.join(settings, node, server, here, NODE)
            site = Site(folder, here / "kubeconfig", settings, node, users, gates, "")
            until(lambda: _ready(site), "the node does not get ready")
            site.kubectl("create", "namespace", "countersign-system")
            yield replace(site, files=site.every())


def _gateway(settings: Settings) -> str:
    """Return this host's address on the machine's bridge."""
    from machines.place import place

    made = place(settings).made()
    assert made
    return f"{made.subnet}.1"


def _ready(site: Site) -> bool:
    found = site.kubectl("get", "node", NODE, "--ignore-not-found", "--output=jsonpath={.status.conditions}")
    return '"reason":"KubeletReady","status":"True"' in found


def _gates(settings: Settings, folder: Path) -> tuple[str, str]:
    """Push our image twice, the second one with programs of other content, and return their digests."""
    client, programs = Registry(folder / "certs.d"), install([GATE, HOOK], settings)
    here = f"linux/{ARCHITECTURES[platform.machine()]}"
    found = []
    for tag in ("1", "2"):
        into = folder / f"gate-{tag}"
        into.mkdir()
        gate = into / GATE
        gate.write_bytes(programs[GATE].read_bytes() + b"\0" * (tag == "2"))
        write_layout(into / "layout", GATE, {here: gate}, {HOOK: {here: programs[HOOK]}}, "")
        found.append(layout.push(client, parse(OURS).name, into / "layout", tag).digest)
    return found[0], found[1]
