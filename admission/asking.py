"""The steps of set-up that are Gatekeeper's alone: it asks the provider by the policy, and it is gone again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from admission.gatekeeper_manifests import CONTROLLER, PROVIDER, VALIDATING
from admission.kube import Kube
from admission.manifests import ANNOTATION, Document
from admission.steps import POLL, READY, holds, running
from countersign.console.errors import InfrastructureError, UsageError
from countersign.nodes.node import CommandError
from countersign.policy import gatekeeper as policies
from countersign.policy.gatekeeper import NAMESPACE

UNKNOWN = "no matches for kind"


@dataclass(frozen=True)
class Asking:
    """The provider runs with the policy, and the constraint asks it.

    Attributes:
        documents: all objects, the constraint last: its kind is there once Gatekeeper has seen the template.
    """

    kube: Kube = field(repr=False)
    documents: Sequence[Document] = field(repr=False)
    name: str = "policy for Gatekeeper, and the provider that decides by it"

    def needed(self) -> bool:
        """Return whether an object is missing or another, or the provider does not run."""
        return not (all(self._is_there(each) for each in self.documents) and self._runs())

    def apply(self) -> None:
        """Apply all of it, and wait until the provider runs by it.

        Raises:
            InfrastructureError: it does not in time.
        """
        *others, constraint = self.documents
        self.kube.apply(others)
        deadline = time.monotonic() + READY
        while not (self._taken(constraint) and self._runs()):
            if time.monotonic() > deadline:
                raise InfrastructureError(f"is not in force after {READY:g} s", where=f"constraint {policies.NAME}")
            time.sleep(POLL)

    def _taken(self, constraint: Document) -> bool:
        try:
            self.kube.apply([constraint])
        except CommandError as error:
            if UNKNOWN not in str(error):
                raise
            return False
        return True

    def _is_there(self, wanted: Document) -> bool:
        metadata = wanted["metadata"]
        found = self.kube.get(_kind(wanted), metadata["name"], metadata.get("namespace", ""))
        given = {key: value for key, value in wanted.items() if key != "stringData"}  # is kept as data
        return found is not None and holds(given, found)

    def _runs(self) -> bool:
        found = self.kube.get("deployment", PROVIDER, NAMESPACE)
        return found is not None and running(found)


@dataclass(frozen=True)
class Removed:
    """There is no Gatekeeper of ours: first nothing asks it any more, then it is taken away."""

    kube: Kube = field(repr=False)
    documents: Callable[[], Sequence[Document]] = field(repr=False)
    name: str = "Gatekeeper, its provider and its policy are removed"

    def needed(self) -> bool:
        """Return whether there is one. Raises UsageError when it is not ours."""
        found = self.kube.get("deployment", CONTROLLER, NAMESPACE)
        if found and ANNOTATION not in found["metadata"].get("annotations", {}):
            do = "delete it yourself"
            raise UsageError("there is a Gatekeeper that set-up did not install", where=NAMESPACE, do=do)
        return found is not None or self.kube.get("namespace", NAMESPACE) is not None

    def apply(self) -> None:
        """Take it away."""
        documents = list(self.documents())
        self.kube.delete([each for each in documents if each["kind"] == VALIDATING])
        self.kube.delete([each for each in documents if each["kind"] == "CustomResourceDefinition"])
        self.kube.delete([_constraints(), *(each for each in documents if each["kind"] != "CustomResourceDefinition")])


def _constraints() -> Document:
    """Return the definition that Gatekeeper makes of the template; it is Gatekeeper's, and stays where that is gone."""
    name = f"{policies.KIND.lower()}.constraints.gatekeeper.sh"
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": name},
    }


def _kind(document: Document) -> str:
    """Return a kind as kubectl finds it whatever else is called so."""
    group, _, version = document["apiVersion"].rpartition("/")
    return f"{document['kind']}.{version}.{group}" if group else str(document["kind"])
