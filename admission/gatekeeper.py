"""Gatekeeper on the cluster of the place ``kind``, with the gate's engine as its external data provider."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import yaml

from admission import foreign, gatekeeper_manifests, manifests, steps
from admission.engine import UNSIGNED, AtAdmission
from admission.gatekeeper_manifests import CONTROLLER, PROVIDER, VALIDATING
from admission.kube import Kube
from admission.manifests import ANNOTATION, Document
from admission.steps import POLL, READY, holds, running
from countersign.console.errors import InfrastructureError, UsageError
from countersign.console.steps import Step
from countersign.keys.tls import ServerIdentity
from countersign.nodes.node import CommandError
from countersign.policy import gatekeeper as policies
from countersign.policy.gatekeeper import NAMESPACE
from kind import cluster as clusters

GATE = "countersign-gate"

UNKNOWN = "no matches for kind"


@dataclass(frozen=True)
class Gatekeeper(AtAdmission):
    """Gatekeeper on our cluster."""

    name: ClassVar[str] = "gatekeeper"
    title: ClassVar[str] = "Gatekeeper"

    @property
    def provider_image(self) -> tuple[str, str]:
        """Repository and tag of the provider's image; the tag is its program's hash."""
        from countersign.nodes.files import sha256
        from countersign.tools.resolver import tool

        return f"{self.addition.home}/demo/{GATE}", sha256(tool(GATE, self.settings))[:12]

    def steps(self) -> list[Step]:
        """Return what set-up does, but for the proof.

        Raises:
            UsageError: the policy would not let Gatekeeper's own image start.
        """
        self._check_policy()
        return [
            *self.pushed(self.repository, self.version, self.image_of(self.name)),
            *self.pushed(*self.provider_image, self.image_of(GATE)),
            self.addition.pushed(self.canary, UNSIGNED, self._canary()),
            steps.Installed(self.kube, self.documents(), self.version, NAMESPACE, CONTROLLER, self.title),
            self._asking(self.settings.policy),
        ]

    def existed(self) -> bool:
        """Return whether there is one already."""
        return self.kube.get("deployment", CONTROLLER, NAMESPACE) is not None

    def documents(self) -> list[Document]:
        """Return Gatekeeper's own objects, the deployment last."""
        module = f"{gatekeeper_manifests.MODULE}@v{self.version}"
        released = manifests.release(self.settings, module, gatekeeper_manifests.RELEASE)
        return gatekeeper_manifests.adapt(released, f"{self.repository}:{self.version}")

    def removed(self) -> Step:
        """Return the step that takes it away."""
        return Removed(self.kube, self.documents)

    def limits(self) -> Sequence[str]:
        """Return what it does not see, with the layers that see it."""
        return policies.LIMITS

    def parts(self) -> list[tuple[str, bool, str]]:
        """Return what ``admission.status`` shows: what, whether it is right, its state."""
        if namespace := self._foreign():
            return self._foreign_parts(namespace)
        found = []
        for title, name in (("Gatekeeper", CONTROLLER), ("its provider", PROVIDER)):
            deployment = self.kube.get("deployment", name, NAMESPACE)
            runs = deployment is not None and steps.running(deployment)
            found.append((title, runs, "runs" if runs else "down" if deployment else "missing"))
        wanted = [each for each in self.documents() if each["kind"] == gatekeeper_manifests.VALIDATING]
        kept = all(self._is_there(each) for each in wanted)
        found.append(("its webhook for pods", kept, "fails closed" if kept else "not as set-up made it"))
        same = not self._asking(self.settings.policy).needed()
        return [*found, ("policy", same, "in force" if same else "missing, or differs from policy.yaml")]

    def mended_by(self) -> str:
        """Return what mends it; a Gatekeeper that is not ours is its owner's to set."""
        if self._foreign():
            return "set it as admission/README.md says; its policy: ./inv policy.render --engine gatekeeper"
        return super().mended_by()

    def _foreign(self) -> str:
        """Return the namespace of a Gatekeeper that set-up did not install; empty where there is none."""
        own = self.kube.get("deployment", CONTROLLER, NAMESPACE)
        if own is not None and ANNOTATION in own["metadata"].get("annotations", {}):
            return ""
        return foreign.namespace_of(self.kube.every(gatekeeper_manifests.VALIDATING))

    def _foreign_parts(self, namespace: str) -> list[tuple[str, bool, str]]:
        """Return what of a Gatekeeper that is not ours fails open, and whether it has the policy."""
        configurations = self.kube.every(gatekeeper_manifests.VALIDATING)
        deployments = self.kube.every("deployment", namespace)
        config = self.kube.get("configs.config.gatekeeper.sh", "config", namespace)
        document = rendered(self.settings.policy)[-1]
        constraint = self.kube.get(document["kind"], document["metadata"]["name"])
        open_ones = foreign.findings(configurations, deployments, config, namespace)
        wrong = [*open_ones, *foreign.of_constraint(constraint)]
        same = constraint is not None and steps.holds(document, constraint)
        return [
            ("Gatekeeper", True, f"in {namespace}, not installed by set-up"),
            *((setting, False, said) for setting, said in wrong),
            *([] if open_ones else [("its settings", True, "fail closed")]),
            ("policy", same, "in force" if same else "missing, or differs from policy.yaml"),
        ]

    @contextmanager
    def policy(self, source: Path) -> Iterator[None]:
        """Decide by another policy.yaml; the user's is put back whatever happens."""
        try:
            self._asking(source).apply()
            self._await(f"{self.canary}:{UNSIGNED}", allow=False)
            yield
        finally:
            self._asking(self.settings.policy).apply()
            self.prove()

    def off(self) -> None:
        """Take the constraint away, and wait until the API server takes whatever pods run."""
        self.kube.delete([each for each in rendered(self.settings.policy) if each["kind"] == policies.KIND])
        self._await(f"{self.canary}:{UNSIGNED}", allow=True)

    def _asking(self, policy: Path) -> Asking:
        config = (clusters.folder(self.settings) / "etc" / "docker.json").read_text(encoding="utf-8")
        repository, tag = self.provider_image
        objects = rendered(policy)
        serving = gatekeeper_manifests.serving(
            f"{repository}:{tag}",
            self._identity,
            self.addition.ca.decode(),
            config,
            objects[-1]["metadata"]["annotations"][policies.DIGEST],
        )
        provider = gatekeeper_manifests.provider(gatekeeper_manifests.URL, self._identity.ca)
        return Asking(self.kube, [*serving, provider, *objects])

    def _is_there(self, document: Document) -> bool:
        found = self.kube.get(document["kind"], document["metadata"]["name"])
        return found is not None and steps.holds(document, found)

    @cached_property
    def _identity(self) -> ServerIdentity:
        """The provider's certificate: that of the cluster, else a new one."""
        from countersign.keys import tls

        kept: Mapping[str, Any] = (self.kube.get("secret", PROVIDER, NAMESPACE) or {}).get("data", {})
        if {"ca.crt", "tls.crt", "tls.key"} <= kept.keys():
            return tls.ServerIdentity(*(base64.b64decode(kept[name]) for name in ("ca.crt", "tls.crt", "tls.key")))
        return tls.make([f"{PROVIDER}.{NAMESPACE}.svc"], "countersign provider CA")


def rendered(policy: Path) -> list[Document]:
    """Return what is rendered of a policy.yaml for Gatekeeper, the constraint last."""
    from countersign.policy.load import load

    return list(yaml.safe_load_all(policies.render(load(policy))))


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
