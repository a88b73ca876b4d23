"""What the API server says: a verdict is one that a webhook gave, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import kubernetes.client
import pytest
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import NewConnectionError

from admission.kube import Answer, create_pod
from countersign.console.errors import InfrastructureError

POD = {"metadata": {"name": "p", "namespace": "n"}}
DENIED = (
    'admission webhook "ivpol.validate.kyverno.svc-fail" denied the request: Policy countersign failed:\n'
    "  countersign: NO_SCOPE: no scope of the policy has r.example/app:v1"
)


def answering(monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = []

    class Fake:
        def __init__(self, client: object) -> None: ...

        def create_namespaced_pod(self, namespace: str, body: object, **more: Any) -> None:
            calls.append({"namespace": namespace, "body": body, **more})
            if error:
                raise error

    monkeypatch.setattr(kubernetes.client, "CoreV1Api", Fake)
    return calls


def refused(message: str, status: int = 400) -> ApiException:
    error = ApiException(status=status, reason="Bad Request")
    error.body = json.dumps({"message": message})
    return error


def ask(*, dry_run: bool = True) -> Answer:
    client: Any = object()
    return create_pod(client, POD, dry_run=dry_run)


def test_a_pod_that_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = answering(monkeypatch, None)
    assert ask() == Answer(allow=True)
    assert ask(dry_run=False) == Answer(allow=True)
    assert [call.get("dry_run") for call in calls] == ["All", None]


def test_a_pod_that_a_webhook_denies(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, refused(DENIED))
    answer = ask()
    assert (answer.allow, answer.code) == (False, "NO_SCOPE")
    assert answer.message.startswith("Policy countersign failed: countersign: NO_SCOPE:")


def test_a_refusal_without_a_code_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, refused(DENIED.replace("NO_SCOPE: no scope", "no signature")))
    assert ask().code == ""


@pytest.mark.parametrize(
    "error",
    [
        refused('Internal error occurred: failed calling webhook "ivpol.validate.kyverno.svc-fail"', 500),
        refused('namespaces "n" not found', 404),
        ApiException(status=503, reason="Service Unavailable"),
        NewConnectionError(None, "refused"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_verdict_is_never_taken_for_one(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    answering(monkeypatch, error)
    with pytest.raises(InfrastructureError):
        ask()
