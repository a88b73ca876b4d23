"""What is applied of Gatekeeper's release manifests, and what is changed in them so that it fails closed."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import yaml

from admission.manifests import HERE, Document
from countersign.keys.tls import ServerIdentity
from countersign.nodes.template import render
from countersign.policy.gatekeeper import NAMESPACE

MODULE = "github.com/open-policy-agent/gatekeeper/v3"
RELEASE = "deploy/gatekeeper.yaml"
CONTROLLER = "gatekeeper-controller-manager"
PROVIDER = "countersign-provider"
URL = f"https://{PROVIDER}.{NAMESPACE}.svc:443/validate"
VALIDATING = "ValidatingWebhookConfiguration"
SHIPPED = "validation.gatekeeper.sh"
"""The webhook that Gatekeeper ships: three seconds, and whoever is not answered is admitted."""
LEFT_OUT = (NAMESPACE, "kube-system")
"""Namespaces that must come up without Gatekeeper; the gate judges what starts there, as everywhere."""
UNUSED = ("Deployment", "MutatingWebhookConfiguration", "PodDisruptionBudget")
"""Kinds of the release that are changed below, or not needed: nothing mutates, and audits are the gate's."""
ARGUMENTS = (
    "--port=8443",
    "--logtostderr",
    f"--exempt-namespace={NAMESPACE}",
    "--disable-opa-builtin={http.send}",
    "--operation=webhook",
    "--operation=status",
    # Without it a constraint's kind never exists, and everything is admitted.
    "--operation=generate",
    # A revoked key counts at once: Gatekeeper would keep answers for three minutes.
    "--external-data-provider-response-cache-ttl=0",
)


def webhook(shipped: Document) -> Document:
    """Return Gatekeeper's webhook configuration with a webhook for pods before its own."""
    changes = yaml.safe_load(render(HERE / "gatekeeper-webhook.yaml.j2", namespace=NAMESPACE, left_out=list(LEFT_OUT)))
    webhooks: list[dict[str, Any]] = [
        {**each, "matchConditions": changes["others"]} if each["name"] == SHIPPED else each
        for each in shipped["webhooks"]
    ]
    return {**shipped, "webhooks": [changes["pods"], *webhooks]}


def without_controllers(released: Sequence[Document]) -> list[Document]:
    """Return the release's objects but those that run, with the changed webhook last."""
    kept = [each for each in released if each["kind"] not in {*UNUSED, VALIDATING}]
    (shipped,) = (each for each in released if each["kind"] == VALIDATING)
    return [*kept, webhook(shipped)]


def adapt(released: Sequence[Document], image: str) -> list[Document]:
    """Return what is applied of the release for a cluster of ours, the deployment last."""
    values = {"image": image, "arguments": list(ARGUMENTS)}
    changes = yaml.safe_load(render(HERE / "gatekeeper-controller.yaml.j2", **values))
    (found,) = (each for each in released if each["kind"] == "Deployment" and each["metadata"]["name"] == CONTROLLER)
    template = found["spec"]["template"]
    (container,) = template["spec"]["containers"]
    kept = {key: value for key, value in container.items() if key not in {"command", "imagePullPolicy"}}
    container = {**kept, "image": changes["image"], "args": changes["args"]}
    pod = {**template, "spec": {**template["spec"], "containers": [container]}}
    spec = {**found["spec"], "replicas": changes["replicas"], "template": pod}
    return [*without_controllers(released), {**found, "spec": spec}]


def serving(
    image: str, identity: ServerIdentity, registries_ca: str, docker_config: str, digest: str
) -> list[Document]:
    """Return the provider's objects.

    Args:
        registries_ca: PEM of the CA behind the registries.
        docker_config: a Docker config.json with their credentials.
        digest: of the policy by which it decides.
    """
    encoded = {
        "certificate": base64.b64encode(identity.certificate).decode(),
        "key": base64.b64encode(identity.key).decode(),
        "ca": base64.b64encode(identity.ca).decode(),
    }
    values = {"registries_ca": registries_ca, "docker_config": docker_config, "digest": digest, "image": image}
    filled = render(HERE / "gatekeeper-serving.yaml.j2", namespace=NAMESPACE, **encoded, **values)
    return list(yaml.safe_load_all(filled))


def provider(url: str, ca: bytes) -> Document:
    """Return the object that tells Gatekeeper where the provider is.

    Args:
        ca: PEM of the CA that certifies it.
    """
    bundle = base64.b64encode(ca).decode()
    document: Document = yaml.safe_load(render(HERE / "gatekeeper-provider.yaml.j2", url=url, ca=bundle))
    return document
