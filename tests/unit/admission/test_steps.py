"""Set-up's steps: needed when they are, and hands off a Kyverno that is not ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest

from admission import steps
from admission.kube import Kube
from admission.manifests import ANNOTATION
from countersign.console.errors import InfrastructureError, UsageError
from countersign.nodes.node import CommandError, Result

DOCUMENTS = [
    {"kind": "Namespace", "metadata": {"name": "kyverno"}},
    {"kind": "Deployment", "metadata": {"name": "kyverno-admission-controller"}, "spec": {"replicas": 1}},
]
POLICY = {"kind": "ImageValidatingPolicy", "spec": {"failurePolicy": "Fail", "attestors": [{"name": "a"}]}}


class FakeKube:
    """Objects by kind; ``comes`` is what an applied deployment turns into."""

    def __init__(self, comes: Mapping[str, Any] | None = None, **objects: Any) -> None:
        self.objects = objects
        self.applied: list[Mapping[str, Any]] = []
        self.comes = comes
        self.waiting: list[dict[str, Any]] = []

    def get(self, kind: str, name: str, namespace: str = "") -> Any:
        return self.objects.get(kind.partition(".")[0])

    def apply(self, documents: Sequence[Mapping[str, Any]]) -> None:
        self.applied += documents
        for each in documents:
            if each["kind"] == "Deployment" and self.comes is not None:
                self.objects["deployment"] = {**each, **self.comes}

    def pods(self, namespace: str) -> list[dict[str, Any]]:
        return self.waiting


def installed(kube: FakeKube) -> steps.Installed:
    return steps.Installed(cast(Kube, kube), DOCUMENTS, "1.0")


def found(annotation: str | None, available: int = 1, observed: int = 3) -> dict[str, Any]:
    annotations = {} if annotation is None else {ANNOTATION: annotation}
    counts = {"replicas": 1, "updatedReplicas": 1, "availableReplicas": available, "observedGeneration": observed}
    return {"metadata": {"generation": 3, "annotations": annotations}, "spec": {"replicas": 1}, "status": counts}


DIGEST = installed(FakeKube()).digest


@pytest.mark.parametrize(
    ("deployment", "needed"),
    [
        (None, True),
        (found(DIGEST), False),
        (found("another"), True),
        (found(DIGEST, available=0), True),
        (found(DIGEST, observed=2), True),
    ],
)
def test_kyverno_is_installed_when_it_is_missing_other_or_down(deployment: Any, needed: bool) -> None:
    assert installed(FakeKube(deployment=deployment)).needed() is needed


def test_a_kyverno_of_the_users_is_left_alone() -> None:
    kube = FakeKube(deployment=found(None))
    with pytest.raises(UsageError, match="set-up did not install"):
        installed(kube).needed()
    with pytest.raises(UsageError, match="set-up did not install"):
        steps.Removed(cast(Kube, kube), lambda: DOCUMENTS).needed()


def test_the_deployment_is_applied_last_and_carries_the_hash() -> None:
    kube = FakeKube(comes={"status": found(DIGEST)["status"], "metadata": found(DIGEST)["metadata"]})
    installed(kube).apply()
    assert [each["kind"] for each in kube.applied] == ["Namespace", "Deployment"]
    assert kube.applied[-1]["metadata"]["annotations"] == {ANNOTATION: DIGEST}
    assert installed(kube).needed() is False


def test_a_controller_that_does_not_run_shows_the_kubelets_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "READY", -1)
    kube = FakeKube(comes=found(DIGEST, available=0))
    waiting = {"reason": "ErrImagePull", "message": "countersign: refused"}
    kube.waiting = [{"status": {"containerStatuses": [{"state": {"waiting": waiting}}]}}]
    with pytest.raises(InfrastructureError, match=r"does not run .*: ErrImagePull: countersign: refused"):
        installed(kube).apply()


@pytest.mark.parametrize(
    ("change", "needed"),
    [
        ({}, False),
        ({"status": {"conditionStatus": {"ready": False}}}, True),
        ({"spec": {"failurePolicy": "Ignore", "attestors": [{"name": "a"}]}}, True),
        ({"spec": {"failurePolicy": "Fail", "attestors": [{"name": "a"}, {"name": "mallory"}]}}, True),
    ],
)
def test_a_policy_that_differs_in_anything_is_put_back(change: dict[str, Any], needed: bool) -> None:
    live = {**POLICY, "spec": {**cast(dict[str, Any], POLICY["spec"]), "evaluation": {}}}
    live |= {"status": {"conditionStatus": {"ready": True}}, **change}
    kube = FakeKube(imagevalidatingpolicies=live)
    assert steps.InForce(cast(Kube, kube), POLICY).needed() is needed


def test_a_policy_that_is_missing_is_needed() -> None:
    assert steps.InForce(cast(Kube, FakeKube()), POLICY).needed()


def test_a_controller_that_is_not_reached_yet_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "POLL", 0)
    kube = FakeKube(imagevalidatingpolicies={"status": {"conditionStatus": {"ready": True}}})
    errors = [failed("failed calling webhook: connection refused"), None]
    monkeypatch.setattr(kube, "apply", lambda _: raise_next(errors))
    steps.InForce(cast(Kube, kube), POLICY).apply()
    assert errors == []


def test_another_error_of_kubectl_is_shown_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    kube = FakeKube()
    errors = [failed("spec.attestors: Required value"), None]
    monkeypatch.setattr(kube, "apply", lambda _: raise_next(errors))
    with pytest.raises(InfrastructureError, match="Required value"):
        steps.InForce(cast(Kube, kube), POLICY).apply()
    assert errors == [None]


def failed(reason: str) -> CommandError:
    return CommandError(Result(("kubectl",), 1, b"", reason.encode(), 0.1), "control-plane")


def raise_next(errors: list[Any]) -> None:
    error = errors.pop(0)
    if error:
        raise error
