"""Gatekeeper's release as it is applied: nothing of it admits a pod that nobody answered for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest

from admission import gatekeeper
from admission import gatekeeper_manifests as manifests
from admission.engines import engine_of
from admission.gatekeeper import Gatekeeper
from admission.kube import Kube
from admission.kyverno import Kyverno
from countersign.console.config import Settings
from countersign.console.errors import UsageError
from countersign.keys.tls import ServerIdentity
from countersign.nodes.node import CommandError, Result

ARGS = ["--port=8443", "--operation=webhook", "--operation=mutation-webhook"]
CONTAINER = {"name": "manager", "image": "x", "command": ["/manager"], "args": ARGS, "securityContext": {"a": 1}}
SHIPPED = {"name": manifests.SHIPPED, "failurePolicy": "Ignore", "timeoutSeconds": 3}
LABELS = {"name": "check-ignore-label.gatekeeper.sh", "failurePolicy": "Fail"}


def deployment(name: str) -> dict[str, Any]:
    spec = {"replicas": 3, "template": {"spec": {"containers": [CONTAINER]}}}
    return {"kind": "Deployment", "metadata": {"name": name}, "spec": spec}


RELEASE: Sequence[dict[str, Any]] = [
    {"kind": "Namespace", "metadata": {"name": "gatekeeper-system"}},
    deployment("gatekeeper-audit"),
    deployment(manifests.CONTROLLER),
    {"kind": "MutatingWebhookConfiguration", "metadata": {"name": "m"}},
    {"kind": manifests.VALIDATING, "metadata": {"name": "v"}, "webhooks": [SHIPPED, LABELS]},
]


def test_pods_have_a_webhook_that_fails_closed_and_knows_no_label() -> None:
    webhook = next(each for each in manifests.adapt(RELEASE, "i") if each["kind"] == manifests.VALIDATING)
    pods, shipped, labels = webhook["webhooks"]
    assert (pods["failurePolicy"], pods["matchPolicy"], pods["timeoutSeconds"]) == ("Fail", "Equivalent", 10)
    (selected,) = pods["namespaceSelector"]["matchExpressions"]
    assert (selected["key"], selected["values"]) == (
        "kubernetes.io/metadata.name",
        ["gatekeeper-system", "kube-system"],
    )
    (rule,) = pods["rules"]
    assert (rule["resources"], rule["operations"]) == (["pods", "pods/ephemeralcontainers"], ["CREATE", "UPDATE"])
    assert "objectSelector" not in pods
    assert "matchConditions" not in pods
    assert (shipped["failurePolicy"], labels) == ("Ignore", LABELS)


def test_one_controller_comes_last_and_does_all_that_constraints_need() -> None:
    adapted = manifests.adapt(RELEASE, "r.example/gatekeeper:1")
    assert [each["kind"] for each in adapted] == ["Namespace", manifests.VALIDATING, "Deployment"]
    spec = adapted[-1]["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    assert (spec["replicas"], container["image"], container["securityContext"]) == (
        1,
        "r.example/gatekeeper:1",
        {"a": 1},
    )
    assert {"--operation=generate", "--external-data-provider-response-cache-ttl=0"} <= set(container["args"])
    assert "--operation=mutation-webhook" not in container["args"]
    assert "command" not in container


def test_gatekeeper_waits_longer_than_the_provider_takes() -> None:
    webhook = manifests.adapt(RELEASE, "i")[-2]["webhooks"][0]["timeoutSeconds"]
    assert 6 < manifests.provider("https://x", b"CA")["spec"]["timeout"] < webhook


def test_the_providers_key_is_in_no_object_but_its_secret() -> None:
    identity = ServerIdentity(b"the CA", b"the certificate", b"the key")
    objects = manifests.serving("i", identity, "CA", "{}", "sha256:0")
    with_key = [each for each in objects if "dGhlIGtleQ==" in str(each)]
    assert [(each["kind"], each["metadata"]["name"]) for each in with_key] == [("Secret", manifests.PROVIDER)]


class Forgetful:
    """Takes the constraint at the second attempt only."""

    def __init__(self, error: str) -> None:
        self.error = error
        self.applied: list[str] = []

    def apply(self, documents: Sequence[Mapping[str, Any]]) -> None:
        self.applied += [each["kind"] for each in documents]
        if self.applied.count("Constraint") == 1 and documents[0]["kind"] == "Constraint":
            raise CommandError(Result(("kubectl",), 1, b"", self.error.encode(), 0.1), "control-plane")

    def get(self, *_: str) -> dict[str, Any]:
        counts = {"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1, "observedGeneration": 1}
        return {"metadata": {"generation": 1}, "spec": {"replicas": 1}, "status": counts}


def test_the_constraint_waits_for_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gatekeeper, "POLL", 0)
    kube = Forgetful('no matches for kind "CountersignImages"')
    gatekeeper.Asking(cast(Kube, kube), [{"kind": "Template"}, {"kind": "Constraint"}]).apply()
    assert kube.applied == ["Template", "Constraint", "Constraint"]


def test_another_error_of_the_constraint_is_shown_at_once() -> None:
    kube = Forgetful("spec: Required value")
    with pytest.raises(CommandError, match="Required value"):
        gatekeeper.Asking(cast(Kube, kube), [{"kind": "Template"}, {"kind": "Constraint"}]).apply()


def test_engines_go_by_their_names() -> None:
    settings = Settings()
    assert isinstance(engine_of("kyverno", settings), Kyverno)
    assert isinstance(engine_of("gatekeeper", settings), Gatekeeper)
    with pytest.raises(UsageError, match="kyverno or gatekeeper"):
        engine_of("opa", settings)
