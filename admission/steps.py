"""The steps of set-up: Kyverno's image, signed; Kyverno; the policy; and each of them gone again."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from admission.kube import Kube
from admission.manifests import ANNOTATION, CONTROLLER, NAMESPACE, Document
from countersign.console.errors import InfrastructureError, UsageError
from countersign.nodes.node import CommandError
from countersign.oci.reference import Reference
from countersign.oci.registry import Registry

if TYPE_CHECKING:
    from countersign.keys.pair import PrivateKey

POLICY = "imagevalidatingpolicies.policies.kyverno.io"
NAME = "countersign"
READY = 240.0
WEBHOOKS = "validatingwebhookconfigurations,mutatingwebhookconfigurations"
MANAGED = "webhook.kyverno.io/managed-by=kyverno"
UNREACHED = "failed calling webhook"
POLL = 0.5


@dataclass(frozen=True)
class Signed:
    """An image is signed by a key, each platform of it too; the gate asks for that like for any other."""

    registry: Callable[[], Registry] = field(repr=False)
    image: Reference
    key: Callable[[], PrivateKey] = field(repr=False)

    @property
    def name(self) -> str:
        """What users read."""
        return f"signature on {self.image}"

    def needed(self) -> bool:
        """Return whether a part of it lacks a signature by the key."""
        from countersign.oci.errors import NotFound
        from signing.sign import targets, there
        from signing.signer import ByKey

        client, signer = self.registry(), ByKey(self.key())
        try:
            parts = targets(client, self.image)
        except NotFound:
            return True
        return not all(
            there(client, self.image.name, part.digest, signer, chosen)
            for part in parts
            for chosen in ("attachment", "bundle")
        )

    def apply(self) -> None:
        """Sign it, in both formats."""
        from signing.sign import sign, targets

        for part in targets(self.registry(), self.image):
            sign(self.registry(), self.image.name, part, self.key())


@dataclass(frozen=True)
class Installed:
    """An engine's objects are in the cluster, and its admission controller runs: Kyverno's, if no other is named."""

    kube: Kube = field(repr=False)
    documents: Sequence[Document] = field(repr=False)
    version: str
    namespace: str = NAMESPACE
    controller: str = CONTROLLER
    title: str = "Kyverno"

    @property
    def name(self) -> str:
        """What users read."""
        return f"{self.title} {self.version}: its admission controller"

    @property
    def digest(self) -> str:
        """A hash of all objects."""
        return hashlib.sha256(json.dumps(self.documents, sort_keys=True).encode()).hexdigest()[:16]

    def needed(self) -> bool:
        """Return whether it is missing, was applied otherwise, or does not run.

        Raises:
            UsageError: there is a Kyverno that is not ours.
        """
        found = self._deployment()
        if found and ANNOTATION not in found["metadata"].get("annotations", {}):
            raise UsageError(
                f"there is a {self.title} that set-up did not install",
                where=f"deployment {self.namespace}/{self.controller}",
                do=f"give it the policy yourself: ./inv policy.render --engine {self.title.lower()}",
            )
        return not (found and found["metadata"]["annotations"][ANNOTATION] == self.digest and running(found))

    def apply(self) -> None:
        """Apply the objects, and wait until the controller runs.

        Raises:
            InfrastructureError: it does not in time; the reason is that of its pod.
        """
        *others, last = self.documents
        annotations = {**last["metadata"].get("annotations", {}), ANNOTATION: self.digest}
        self.kube.apply(others)
        self.kube.apply([{**last, "metadata": {**last["metadata"], "annotations": annotations}}])
        deadline = time.monotonic() + READY
        while not ((found := self._deployment()) and running(found)):
            if time.monotonic() > deadline:
                raise InfrastructureError(
                    f"does not run after {READY:g} s{_reason(self.kube, self.namespace)}", where=self.name
                )
            time.sleep(POLL)

    def _deployment(self) -> dict[str, Any] | None:
        return self.kube.get("deployment", self.controller, self.namespace)


@dataclass(frozen=True)
class InForce:
    """The policy is in the cluster as it is rendered, and Kyverno is ready to decide by it."""

    kube: Kube = field(repr=False)
    document: Document = field(repr=False)
    name: str = "policy for Kyverno"

    def needed(self) -> bool:
        """Return whether it is missing, or another."""
        found = self.kube.get(POLICY, NAME)
        return not (found and holds(self.document, found) and ready(found))

    def apply(self) -> None:
        """Apply it, and wait until Kyverno has taken it up.

        Raises:
            InfrastructureError: it is not in time.
        """
        deadline, taken = time.monotonic() + READY, False
        while not ((taken := taken or self._taken()) and (found := self.kube.get(POLICY, NAME)) and ready(found)):
            if time.monotonic() > deadline:
                raise InfrastructureError(f"is not ready after {READY:g} s", where=f"ImageValidatingPolicy {NAME}")
            time.sleep(POLL)

    def _taken(self) -> bool:
        """Apply it; a controller that has just begun to run is not reached through its service at once."""
        try:
            self.kube.apply([self.document])
        except CommandError as error:
            if UNREACHED not in str(error):
                raise
            return False
        return True


@dataclass(frozen=True)
class Removed:
    """There is no Kyverno of ours: first nothing asks it any more, then it is taken away."""

    kube: Kube = field(repr=False)
    documents: Callable[[], Sequence[Document]] = field(repr=False)
    name: str = "Kyverno and its policy are removed"

    def needed(self) -> bool:
        """Return whether there is one. Raises UsageError when it is not ours."""
        found = deployment(self.kube)
        if found and ANNOTATION not in found["metadata"].get("annotations", {}):
            raise UsageError("there is a Kyverno that set-up did not install", where=NAMESPACE, do="delete it yourself")
        return found is not None or self.kube.get("namespace", NAMESPACE) is not None

    def apply(self) -> None:
        """Take it away."""
        documents = list(self.documents())
        self.kube.delete([each for each in documents if each["kind"] == "Deployment"])
        self.kube.delete_labelled(WEBHOOKS, MANAGED)
        self.kube.delete([each for each in documents if each["kind"] != "Deployment"])


def deployment(kube: Kube) -> dict[str, Any] | None:
    """Return the admission controller's deployment, or None."""
    return kube.get("deployment", CONTROLLER, NAMESPACE)


def running(found: Mapping[str, Any]) -> bool:
    """Return whether a deployment has all its pods available, in its present form."""
    status, generation = found.get("status", {}), found["metadata"].get("generation")
    wanted = found["spec"].get("replicas", 1)
    same = bool(status.get("observedGeneration") == generation)
    counts = {status.get(key) for key in ("replicas", "updatedReplicas", "availableReplicas")}
    return same and counts == {wanted}


def ready(found: Mapping[str, Any]) -> bool:
    """Return whether Kyverno says that it decides by a policy."""
    return bool(found.get("status", {}).get("conditionStatus", {}).get("ready"))


def holds(wanted: Any, found: Any) -> bool:
    """Return whether an object has all that is wanted of it, whatever else it has."""
    if isinstance(wanted, Mapping):
        return isinstance(found, Mapping) and all(key in found and holds(wanted[key], found[key]) for key in wanted)
    if isinstance(wanted, list):
        same = isinstance(found, list) and len(wanted) == len(found)
        return same and all(holds(*pair) for pair in zip(wanted, found, strict=True))
    return bool(wanted == found)


def _reason(kube: Kube, namespace: str) -> str:
    """Return why the controller's container waits, in the kubelet's words."""
    statuses = [each for pod in kube.pods(namespace) for each in pod.get("status", {}).get("containerStatuses", ())]
    waiting = [each["state"]["waiting"] for each in statuses if "waiting" in each.get("state", {})]
    return "".join(f": {each.get('reason')}: {each.get('message', '')}" for each in waiting[:1])
