"""An API server with its etcd, and nothing that would start a pod: enough for all that happens at admission."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from admission.kube import Answer, create_pod
from countersign.console.config import Settings
from countersign.console.errors import InfrastructureError
from countersign.keys import tls
from countersign.tools.resolver import tool
from tests.interop.conftest import free_netloc

TOKEN = "of-the-tests"
WITHIN = 90.0


@dataclass(frozen=True)
class Cluster:
    """A running API server.

    Attributes:
        kubeconfig: a file, by which everything may be done.
        kubectl: the program.
    """

    kubeconfig: Path
    kubectl: Path

    def run(self, *words: str, given: bytes | None = None) -> str:
        """Run kubectl; fails the test where it fails."""
        argv = [str(self.kubectl), f"--kubeconfig={self.kubeconfig}", *words]
        done = subprocess.run(argv, input=given, capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def apply(self, documents: Sequence[Mapping[str, Any]]) -> None:
        """Apply objects."""
        items = {"apiVersion": "v1", "kind": "List", "items": list(documents)}
        self.run("apply", "--server-side", "--force-conflicts", "-f", "-", given=json.dumps(items).encode())

    def applied(self, documents: Sequence[Mapping[str, Any]]) -> None:
        """Apply objects as soon as the API server knows their kinds."""
        items = {"apiVersion": "v1", "kind": "List", "items": list(documents)}
        argv = [str(self.kubectl), f"--kubeconfig={self.kubeconfig}", "apply", "--server-side", "-f", "-"]
        end = time.monotonic() + WITHIN
        while True:
            done = subprocess.run(argv, input=json.dumps(items).encode(), capture_output=True, check=False)
            if done.returncode == 0:
                return
            assert time.monotonic() < end, done.stderr.decode()
            time.sleep(0.2)

    def review(self, pod: Mapping[str, Any]) -> Answer:
        """Return what the API server says to a pod, in a dry run."""
        from kubernetes.config import new_client_from_config

        return create_pod(new_client_from_config(str(self.kubeconfig)), pod, dry_run=True)

    def tried(self, *words: str) -> str:
        """Run kubectl, and return its error; empty where there is none."""
        argv = [str(self.kubectl), f"--kubeconfig={self.kubeconfig}", *words]
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False).stderr

    def settled(self, pod: Mapping[str, Any], *, allow: bool, says: str = "") -> Answer:
        """Return the answer once it is so, and says so; the last one where it never is."""
        end = time.monotonic() + WITHIN
        while True:
            try:
                answer = self.review(pod)
            except InfrastructureError as error:
                answer = Answer(allow=False, message=str(error))
            if (answer.allow == allow and says in answer.message) or time.monotonic() > end:
                return answer
            time.sleep(0.2)


@contextmanager
def started(settings: Settings, folder: Path) -> Iterator[Cluster]:
    """Run etcd and an API server until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    store, peer, server = free_netloc(), free_netloc(), free_netloc()
    key = rsa.generate_private_key(65537, 2048)
    how = (serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    (folder / "accounts.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, *how))
    (folder / "tokens.csv").write_text(f"{TOKEN},tests,tests,system:masters\n")
    etcd = [str(tool("etcd", settings)), f"--data-dir={folder}/etcd", "--unsafe-no-fsync"]
    etcd += [f"--listen-client-urls=http://{store}", f"--advertise-client-urls=http://{store}"]
    etcd += [f"--listen-peer-urls=http://{peer}", "--log-level=error"]
    host, port = server.split(":")
    identity = tls.make(["127.0.0.1"])
    (folder / "ca.crt").write_bytes(identity.ca)
    (folder / "api.crt").write_bytes(identity.certificate)
    (folder / "api.key").write_bytes(identity.key)
    host, port = server.split(":")
    api = [str(tool("kube-apiserver", settings)), f"--etcd-servers=http://{store}", f"--bind-address={host}"]
    api += [f"--secure-port={port}", f"--tls-cert-file={folder}/api.crt", f"--tls-private-key-file={folder}/api.key"]
    api += [f"--service-account-{name}={folder}/accounts.key" for name in ("key-file", "signing-key-file")]
    api += ["--service-account-issuer=https://tests", "--service-cluster-ip-range=10.0.0.0/24"]
    api += ["--authorization-mode=RBAC", f"--token-auth-file={folder}/tokens.csv"]
    api += ["--disable-admission-plugins=ServiceAccount"]  # nobody makes accounts here
    user = {"name": "tests", "user": {"token": TOKEN}}
    where = {"name": "tests", "cluster": {"server": f"https://{server}", "certificate-authority": f"{folder}/ca.crt"}}
    context = {"name": "tests", "context": {"cluster": "tests", "user": "tests"}}
    config = {"apiVersion": "v1", "kind": "Config", "clusters": [where], "users": [user], "contexts": [context]}
    (folder / "kubeconfig").write_text(yaml.safe_dump({**config, "current-context": "tests"}))
    with ExitStack() as stack:
        for name, argv in (("etcd", etcd), ("kube-apiserver", api)):
            stack.enter_context(process(argv, folder / f"{name}.log"))
        found = Cluster(folder / "kubeconfig", tool("kubectl", settings))
        _await(found)
        yield found


@contextmanager
def process(argv: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> Iterator[None]:
    """Run a program until the block ends."""
    with log.open("ab") as out:
        running = subprocess.Popen(argv, stdout=out, stderr=out, env=environment)
        try:
            yield
        finally:
            running.terminate()
            try:
                running.wait(15)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()


def _await(cluster: Cluster) -> None:
    end = time.monotonic() + WITHIN
    argv = [str(cluster.kubectl), f"--kubeconfig={cluster.kubeconfig}", "get", "namespace", "default"]
    while subprocess.run(argv, capture_output=True, check=False).returncode:
        assert time.monotonic() < end, "the API server does not come up"
        time.sleep(0.2)
