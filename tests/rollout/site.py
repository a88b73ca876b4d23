"""A Kind cluster that knows nothing of us, as a platform team has it, and the ways to it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from countersign.console.config import ROOT
from countersign.console.sources import load_settings
from countersign.nodes.docker import DockerNode
from countersign.tools.resolver import tool

NAME, NAMESPACE = "countersign", "countersign-system"
OURS = "cluster.test/countersign/gate"
GOOD, OTHER, SIGNED = "good.test/program:1", "other.test/program:1", "signed.test/program:1"
SCOPES = {"cluster.test": "accept", "good.test": "accept", "registry.k8s.io": "accept", "countersign.test": "accept"}
"""Names of the system's own images, as far as this cluster's node image has them, and of the tests'."""
FILES = "find /etc /opt /usr/local -xdev -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum"


@dataclass(frozen=True)
class Cluster:
    """A cluster, and the ways to it.

    Attributes:
        state: a folder for files of the tests'.
        kubeconfig: an administrator's.
    """

    state: Path
    kubeconfig: Path

    def kubectl(self, *words: str, document: object = None, check: bool = True) -> str:
        """Run kubectl as an administrator, with a document on its stdin."""
        argv = [str(tool("kubectl", load_settings())), f"--kubeconfig={self.kubeconfig}", *words]
        text = json.dumps(document) if document is not None else ""
        done = subprocess.run(argv, input=text, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0 or not check, f"kubectl {' '.join(words)}: {done.stderr}"
        return done.stdout if check else done.stdout + done.stderr

    def get(self, *words: str) -> Any:
        """Return what kubectl gets."""
        return json.loads(self.kubectl("get", *words, "--output=json"))

    def nodes(self) -> dict[str, dict[str, Any]]:
        """Return the status of each CountersignNode."""
        return {each["metadata"]["name"]: each.get("status", {}) for each in self.get("countersignnodes")["items"]}

    def taints(self, node: str) -> list[str]:
        """Return the keys of a node's taints."""
        return [taint["key"] for taint in self.get("node", node)["spec"].get("taints", [])]

    def events(self, reason: str) -> list[dict[str, Any]]:
        """Return all events with a reason."""
        found: list[dict[str, Any]] = self.get("events", "--all-namespaces", f"--field-selector=reason={reason}")[
            "items"
        ]
        return found

    def in_force(self, name: str) -> dict[str, Any]:
        """Return the condition of a CountersignPolicy."""
        conditions = self.get("countersignpolicy", name).get("status", {}).get("conditions", [{}])
        found: dict[str, Any] = conditions[0]
        return found

    def helm(
        self, *words: str, timeout: float = 200, kubeconfig: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run Helm, as an administrator where no other kubeconfig is given."""
        argv = [
            str(tool("helm", load_settings())),
            *words,
            "--namespace",
            NAMESPACE,
            "--kubeconfig",
            str(kubeconfig or self.kubeconfig),
        ]
        return subprocess.run(argv, capture_output=True, text=True, timeout=timeout, check=False)

    def upgrade(self, *values: str, kubeconfig: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Install the chart, or upgrade it, with these values."""
        chart = str(ROOT / "rollout" / "chart")
        return self.helm("upgrade", "--install", NAME, chart, *values, "--wait", kubeconfig=kubeconfig)


@dataclass(frozen=True)
class Site(Cluster):
    """A Kind cluster."""

    control: DockerNode
    worker: DockerNode
    digest: str
    files: str
    """What the worker had, as one digest."""

    def kubectl(self, *words: str, document: object = None, check: bool = True) -> str:
        """Run kubectl as an administrator, with a document on its stdin; the one that is there."""
        argv = ["kubectl", "--kubeconfig=/etc/kubernetes/admin.conf", *words]
        text = json.dumps(document).encode() if document is not None else b""
        done = self.control.run(argv, input=text, check=check, timeout=120)
        return done.text if check else done.text + done.stderr.decode()

    def install(
        self, scopes: dict[str, str], *more: str, kubeconfig: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Install the chart, or upgrade it, with a policy of these scopes."""
        values = ["--set", f"image.repository={OURS}", "--set", f"image.digest={self.digest}", "--set", "every=2s"]
        policy = ["--set-file", f"policy.content={self.policy(scopes)}"]
        return self.upgrade(*values, *policy, *more, kubeconfig=kubeconfig)

    def policy(self, scopes: dict[str, str]) -> Path:
        """Write a rendered policy."""
        written, rendered = self.state / "policy.yaml", self.state / "policy.json"
        lines = [f"  {scope}: {rule}" for scope, rule in scopes.items()]
        if not self.state.joinpath("key.pub").exists():
            key = ec.generate_private_key(ec.SECP256R1()).public_key()
            pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            self.state.joinpath("key.pub").write_bytes(pem)
        root = "roots: {key: {publicKey: {files: [key.pub]}}}"
        head = ["apiVersion: countersign/v1", "default: reject", root, "pinned: []", "scopes:"]
        written.write_text("\n".join([*head, *lines]) + "\n", encoding="utf-8")
        inv("policy.render", "--policy", str(written), "--out", str(rendered))
        return rendered

    def manifest(self, name: str, scopes: dict[str, str]) -> dict[str, Any]:
        """Render a CountersignPolicy."""
        self.policy(scopes)  # the same, for comparison
        document: dict[str, Any] = json.loads(
            inv("policy.render", "--engine", "cluster", "--policy", str(self.state / "policy.yaml"))
        )
        document["metadata"]["name"] = name
        return document

    def pod(self, name: str, image: str) -> dict[str, Any]:
        """Run a pod on the worker, past the scheduler, and return its container's state once it ran or was refused."""
        container = {
            "name": "it",
            "image": image,
            "imagePullPolicy": "Never",
            "command": ["/countersign-gate", "version"],
        }
        spec: dict[str, Any] = {"nodeName": self.worker.name, "restartPolicy": "Never", "containers": [container]}
        spec |= {"automountServiceAccountToken": False, "hostNetwork": True}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        self.kubectl("apply", "--filename=-", document=pod)
        found: dict[str, Any] = {}

        def settled() -> bool:
            statuses = self.get("pod", name)["status"].get("containerStatuses", [])
            found.clear()
            found.update(statuses[0]["state"] if statuses else {})
            waiting = found.get("waiting", {}).get("reason", "ContainerCreating")
            return "terminated" in found or ("waiting" in found and waiting != "ContainerCreating")

        until(settled, f"{name} neither ran nor was refused")
        self.kubectl("delete", "pod", name, "--now", "--wait=false")
        return found


def until(holds: Callable[[], bool], otherwise: str, within: float = 150) -> None:
    """Wait for something."""
    end = time.monotonic() + within
    while not holds():
        assert time.monotonic() < end, otherwise
        time.sleep(0.3)


def inv(*words: str, env: dict[str, str] | None = None) -> str:
    """Run tasks as a user does."""
    done = subprocess.run(
        [ROOT / "inv", *words], env=os.environ | (env or {}), capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def bound(site: Site) -> list[str]:
    """Bind a token to the agent's pod on the worker, as the kubelet does."""
    selector = f"--selector=app.kubernetes.io/instance={NAME}"
    pods = site.get("pods", "--namespace", NAMESPACE, selector, f"--field-selector=spec.nodeName={site.worker.name}")
    metadata = pods["items"][0]["metadata"]
    return [
        "--bound-object-kind=Pod",
        f"--bound-object-name={metadata['name']}",
        f"--bound-object-uid={metadata['uid']}",
    ]


def as_agent(site: Site, method: str, path: str, document: object, media: str = "application/json") -> Any:
    """Return the API server's answer to the worker's agent."""
    token = site.kubectl("--namespace", NAMESPACE, "create", "token", f"{NAME}-agent", *bound(site))
    server = site.kubectl("config", "view", "--minify", "--output=jsonpath={.clusters[0].cluster.server}")
    script = (  # the token by stdin: what is in argv others can read
        'read -r token; printf \'header = "Authorization: Bearer %s"\\n\' "$token" | '
        'curl --silent --config - --insecure --request "$1" --header "Content-Type: $2" --data "$3" "$0"'
    )
    argv = ["bash", "-c", script, f"{server}{path}", method, media, json.dumps(document)]
    return json.loads(site.control.run(argv, input=token.encode() + b"\n").text)
