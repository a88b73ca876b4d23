"""Gatekeeper and our provider as set-up has them, before an API server; and a registry with images."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from invoke.config import Config
from invoke.context import Context

from admission import gatekeeper_manifests as manifests
from admission.manifests import release
from countersign.console.config import ROOT, Settings, settings_from
from countersign.keys import files as keyfiles
from countersign.keys import pair as keys
from countersign.oci import reference
from countersign.oci.registry import Registry
from countersign.policy import gatekeeper
from countersign.policy.load import load
from countersign.tools.recipes import lookup
from countersign.tools.resolver import tool
from signing.sign import sign, targets
from tests.gatekeeper import cluster as clusters
from tests.gatekeeper.certificates import Authority
from tests.gatekeeper.cluster import Cluster
from tests.images import push_image
from tests.interop.conftest import free_netloc, running

GATEKEEPER = f"gatekeeper-webhook-service.{gatekeeper.NAMESPACE}.svc"
PROVIDER = f"countersign-provider.{gatekeeper.NAMESPACE}.svc"

IGNORED = {
    "apiVersion": "v1",
    "kind": "Namespace",
    "metadata": {"name": "ignored", "labels": {"admission.gatekeeper.sh/ignore": "yes"}},
}
"""A namespace that Gatekeeper's own webhook leaves alone."""


@dataclass(frozen=True)
class Place:
    """Everything together.

    Attributes:
        cluster: the API server.
        netloc: of the registry.
        client: of it.
        key: signs what the policy allows.
        provider: runs the provider until its block ends.
        gatekeeper: runs Gatekeeper until its block ends.
        answering: the address of the provider.
        folder: has the policy that the provider reads (``policy.json``), and its certificate (``provider``).
    """

    cluster: Cluster
    netloc: str
    client: Registry
    key: keys.PrivateKey
    provider: Callable[[], AbstractContextManager[None]]
    gatekeeper: Callable[[], AbstractContextManager[None]]
    answering: str
    folder: Path

    def name(self, image: str) -> str:
        """Return a repository's name."""
        return f"{self.netloc}/demo/{image}"


@pytest.fixture(scope="session")
def settings() -> Settings:
    """The configuration of this checkout."""
    config = Config(project_location=ROOT)
    config.load_project()
    config.load_shell_env()
    return settings_from(Context(config))


@pytest.fixture(scope="session")
def place(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """API server, registry and objects; neither Gatekeeper nor the provider runs yet."""
    folder, netloc = tmp_path_factory.mktemp("gatekeeper"), free_netloc()
    key = keys.generate()
    keyfiles.write(folder / "team", key, b"of the tests")
    policy = {"roots": {"team": {"publicKey": {"files": ["team.pub"]}}}, "scopes": {netloc: {"anyOf": ["team"]}}}
    (folder / "policy.yaml").write_text(yaml.safe_dump({"apiVersion": "countersign/v1", "default": "reject", **policy}))
    registry = [str(tool("registry", settings)), "--address", netloc, "--dir", str(folder / "registry")]
    with clusters.started(settings, folder / "cluster") as cluster, running(registry, netloc):
        webhook, answering, health = free_netloc(), free_netloc(), free_netloc()
        authority = Authority()
        authority.write(folder / "gatekeeper", GATEKEEPER)
        authority.write(folder / "provider", PROVIDER)
        version = lookup("gatekeeper")[0].version
        released = release(settings, f"{manifests.MODULE}@v{version}", manifests.RELEASE)
        objects = [_reached(each, webhook, authority) for each in manifests.without_controllers(released)]
        cluster.apply([*objects[:1], IGNORED])
        cluster.apply([*objects[1:], _own_pod()])
        rendered = list(yaml.safe_load_all(gatekeeper.render(load(folder / "policy.yaml"))))
        (folder / "policy.json").write_text(rendered[0]["data"]["policy.json"])
        cluster.applied(
            [manifests.provider(f"https://{answering}/validate", authority.pem), *rendered[:2]],
        )

        @contextmanager
        def provider() -> Iterator[None]:
            argv = [str(tool("countersign-gate", settings)), "provider", "--listen", answering, "--health", health]
            argv += ["--policy", str(folder / "policy.json"), "--client-ca", str(folder / "gatekeeper" / "ca.crt")]
            argv += ["--tls-cert", str(folder / "provider/tls.crt"), "--tls-key", str(folder / "provider/tls.key")]
            with clusters.process(argv, folder / "provider.log"):
                yield

        @contextmanager
        def gate() -> Iterator[None]:
            port = webhook.split(":")[1]
            changed = {"--port": port, "--cert-dir": str(folder / "gatekeeper"), "--health-addr": "0"}
            argv = [str(tool("gatekeeper", settings)), "--host=127.0.0.1", "--disable-cert-rotation"]
            argv += [each for each in manifests.ARGUMENTS if each.partition("=")[0] not in changed]
            argv += [f"{name}={value}" for name, value in changed.items()]
            own = {"POD_NAME": "gatekeeper", "POD_NAMESPACE": gatekeeper.NAMESPACE, "NAMESPACE": gatekeeper.NAMESPACE}
            environment = {**os.environ, **own, "KUBECONFIG": str(cluster.kubeconfig), "CONTAINER_NAME": "manager"}
            with clusters.process(argv, folder / "gatekeeper.log", environment):
                cluster.applied(rendered[2:])
                yield

        found = Place(cluster, netloc, Registry(), key, provider, gate, answering, folder)
        _push(found)
        yield found


def pod(place: Place, tag: str, namespace: str = "default", **more: Any) -> Mapping[str, Any]:
    """Return a pod with one container."""
    spec = {"containers": [{"name": "one", "image": place.name(f"app:{tag}")}], **more}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "trial", "namespace": namespace}, "spec": spec}


def _push(place: Place) -> None:
    """Push two images, one of them signed."""
    for name in ("signed", "unsigned"):
        push_image(place.client, place.name("app"), name, name)
    for part in targets(place.client, reference.parse(place.name("app:signed"))):
        sign(place.client, place.name("app"), part, place.key)


def _reached(document: Mapping[str, Any], webhook: str, authority: Authority) -> dict[str, Any]:
    """Return an object whose webhooks, if it has any, are reached on this machine: there is no network of services."""
    import base64

    if document["kind"] != manifests.VALIDATING:
        return dict(document)
    ca = base64.b64encode(authority.pem).decode()
    webhooks = [
        {**each, "clientConfig": {"url": f"https://{webhook}{each['clientConfig']['service']['path']}", "caBundle": ca}}
        for each in document["webhooks"]
    ]
    return {**document, "webhooks": webhooks}


def _own_pod() -> dict[str, Any]:
    """Return the pod that Gatekeeper wants to be."""
    metadata = {"name": "gatekeeper", "namespace": gatekeeper.NAMESPACE}
    spec = {"securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}}}
    secured = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    container = {"name": "manager", "image": "gatekeeper", "securityContext": secured}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {**spec, "containers": [container]}}
