"""A control plane whose programs run on this host, for nodes that are machines on a bridge."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from countersign.console.config import Settings
from countersign.keys import tls
from countersign.tools.resolver import tool
from tests.gatekeeper.cluster import process
from tests.interop.conftest import free_netloc

SERVICES, FIRST = "10.97.0.0/24", "10.97.0.1"
"""The addresses of services; the API server has the first one."""
ADMIN, PROXY = "of-the-administrator", "of-the-proxy"
WITHIN = 90.0


def token(node: str) -> str:
    """Return by what a node's kubelet says who it is."""
    return f"of-{node}"


def kubeconfig(server: str, authority: str, secret: str) -> str:
    """Return a kubeconfig, as YAML."""
    cluster = {"server": server, "certificate-authority": authority}
    context = {"name": "tests", "context": {"cluster": "tests", "user": "tests"}}
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "tests", "cluster": cluster}],
            "users": [{"name": "tests", "user": {"token": secret}}],
            "contexts": [context],
            "current-context": "tests",
        }
    )


@contextmanager
def started(settings: Settings, folder: Path, address: str, node: str) -> Iterator[str]:
    """Run etcd, API server, controller manager and scheduler until the block ends; gives the API server's URL.

    Args:
        settings: the user's.
        folder: for what they keep; ``kubeconfig`` in it is the administrator's, ``ca.crt`` the API server's authority.
        address: of this host's, where nodes reach it.
        node: the name of a node that may join.
    """
    server = f"https://{address}:{free_netloc().rpartition(':')[2]}"
    _credentials(folder, address, node)
    folder.joinpath("kubeconfig").write_text(kubeconfig(server, f"{folder}/ca.crt", ADMIN), encoding="utf-8")
    known = f"--kubeconfig={folder}/kubeconfig"
    store = free_netloc()
    manager = ["kube-controller-manager", known, "--leader-elect=false", f"--root-ca-file={folder}/ca.crt"]
    manager += [f"--service-account-private-key-file={folder}/accounts.key", "--bind-address=127.0.0.1"]
    manager += [f"--secure-port={free_netloc().rpartition(':')[2]}"]
    scheduler = ["kube-scheduler", known, "--leader-elect=false", "--bind-address=127.0.0.1"]
    scheduler += [f"--secure-port={free_netloc().rpartition(':')[2]}"]
    with ExitStack() as stack:
        for argv in (_etcd(folder, store), _api_server(folder, store, server)):
            stack.enter_context(_running(settings, folder, argv))
        _answers(settings, folder)
        for argv in (manager, scheduler):
            stack.enter_context(_running(settings, folder, argv))
        yield server


def _running(settings: Settings, folder: Path, argv: list[str]) -> AbstractContextManager[None]:
    return process([str(tool(argv[0], settings)), *argv[1:]], folder / f"{argv[0]}.log")


def _credentials(folder: Path, address: str, node: str) -> None:
    """Write the API server's certificate, the key of service accounts, and who has which token."""
    folder.mkdir(parents=True, exist_ok=True)
    identity = tls.make([address, FIRST, "127.0.0.1"])
    folder.joinpath("ca.crt").write_bytes(identity.ca)
    folder.joinpath("api.crt").write_bytes(identity.certificate)
    folder.joinpath("api.key").write_bytes(identity.key)
    key = rsa.generate_private_key(65537, 2048)
    how = (serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
    folder.joinpath("accounts.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, *how))
    known = [f"{ADMIN},tests,1,system:masters", f"{token(node)},system:node:{node},2,system:nodes"]
    known.append(f"{PROXY},system:kube-proxy,3")
    folder.joinpath("tokens.csv").write_text("\n".join(known) + "\n", encoding="utf-8")


def _etcd(folder: Path, store: str) -> list[str]:
    urls = [f"--listen-client-urls=http://{store}", f"--advertise-client-urls=http://{store}"]
    peers = [f"--listen-peer-urls=http://{free_netloc()}", "--log-level=error"]
    return ["etcd", f"--data-dir={folder}/etcd", "--unsafe-no-fsync", *urls, *peers]


def _api_server(folder: Path, store: str, server: str) -> list[str]:
    address, port = server.removeprefix("https://").split(":")
    accounts = [f"--service-account-{name}={folder}/accounts.key" for name in ("key-file", "signing-key-file")]
    return [
        "kube-apiserver",
        f"--etcd-servers=http://{store}",
        f"--bind-address={address}",
        f"--advertise-address={address}",
        f"--secure-port={port}",
        f"--tls-cert-file={folder}/api.crt",
        f"--tls-private-key-file={folder}/api.key",
        *accounts,
        "--service-account-issuer=https://tests",
        f"--service-cluster-ip-range={SERVICES}",
        "--allow-privileged=true",
        "--kubelet-preferred-address-types=InternalIP",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--token-auth-file={folder}/tokens.csv",
    ]


def _answers(settings: Settings, folder: Path) -> None:
    end = time.monotonic() + WITHIN
    argv = [str(tool("kubectl", settings)), f"--kubeconfig={folder}/kubeconfig", "get", "namespace", "default"]
    while subprocess.run(argv, capture_output=True, check=False).returncode:
        assert time.monotonic() < end, "the API server does not come up"
        time.sleep(0.2)
