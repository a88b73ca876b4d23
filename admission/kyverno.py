"""Kyverno on the cluster of the place ``kind``: what set-up does, and what there is."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from admission import manifests, steps
from admission.kube import Answer, Kube, create_pod
from admission.manifests import HERE, Document
from countersign.console.errors import InfrastructureError, MissingError, UsageError, VerdictError
from countersign.enforcement.additions import offered
from countersign.nodes.template import render
from kind import cluster as clusters

if TYPE_CHECKING:
    from countersign.console.config import Settings
    from countersign.console.steps import Step
    from countersign.enforcement.additions import Addition
    from countersign.keys.pair import PrivateKey
    from countersign.oci.registry import Registry

UNSIGNED = "unsigned"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
PROVEN_WITHIN = 60.0


@dataclass(frozen=True)
class Kyverno:
    """Kyverno on our cluster.

    Attributes:
        settings: the user's.
    """

    settings: Settings = field(repr=False)

    @cached_property
    def kube(self) -> Kube:
        """The cluster. Raises NotThereYet when there is none."""
        found = clusters.require(self.settings)
        return Kube(found.nodes[0].node, found.kubeconfig)

    @cached_property
    def addition(self) -> Addition:
        """What the cluster is given beside enforcement: its registry has Kyverno's image.

        Raises:
            MissingError: there is no such registry.
        """
        found = offered().for_cluster(self.settings)
        if not found.home:
            raise MissingError("there is no registry for Kyverno's image", do="see lab.setup")
        return found

    @property
    def repository(self) -> str:
        """Where its image lies: in the scope of the demo's key, so that the gate lets it start like any other one."""
        return f"{self.addition.home}/demo/kyverno"

    @property
    def canary(self) -> str:
        """Where the image lies that nobody signed."""
        return f"{self.addition.home}/demo/admission-canary"

    @property
    def version(self) -> str:
        """The pinned version."""
        from countersign.tools.recipes import lookup

        return lookup("kyverno")[0].version

    def steps(self) -> list[Step]:
        """Return what set-up does, but for the proof.

        Raises:
            UsageError: the policy would not let Kyverno's own image start.
        """
        from countersign.oci.reference import parse

        self._check_policy()
        image = f"{self.repository}:{self.version}"
        return [
            self.addition.pushed(self.repository, self.version, self._image()),
            steps.Signed(self.registry, parse(image), self._key),
            self.addition.pushed(self.canary, UNSIGNED, self._canary()),
            steps.Installed(self.kube, self.documents(), self.version),
            steps.InForce(self.kube, rendered(self.settings.policy)),
        ]

    def documents(self) -> list[Document]:
        """Return all objects but the policy."""
        config = (clusters.folder(self.settings) / "etc" / "docker.json").read_text(encoding="utf-8")
        released = manifests.release(self.settings)
        return manifests.adapt(released, f"{self.repository}:{self.version}", self.addition.ca.decode(), config)

    def removed(self) -> Step:
        """Return the step that takes it away."""
        return steps.Removed(self.kube, self.documents)

    def prove(self) -> None:
        """Wait until the API server takes Kyverno's own image, and refuses the canary, which nobody signed.

        Raises:
            VerdictError: it does not.
        """
        signed, unsigned = f"{self.repository}:{self.version}", f"{self.canary}:{UNSIGNED}"
        self._await(signed, allow=True)
        self._await(unsigned, allow=False)

    def review(self, image: str, name: str = "proof", namespace: str = "default", *, dry_run: bool = True) -> Answer:
        """Return what the API server says to a pod with this image."""
        return create_pod(self._client, pod(name, namespace, image), dry_run=dry_run)

    @contextmanager
    def policy(self, source: Path) -> Iterator[None]:
        """Decide by another policy.yaml; the user's is put back whatever happens."""
        try:
            self.off()
            steps.InForce(self.kube, rendered(source)).apply()
            self._await(f"{self.canary}:{UNSIGNED}", allow=False)
            yield
        finally:
            self.off()
            steps.InForce(self.kube, rendered(self.settings.policy)).apply()
            self.prove()

    def off(self) -> None:
        """Take the policy away, and wait until the API server asks Kyverno no more."""
        self.kube.delete([rendered(self.settings.policy)])
        self._await(f"{self.canary}:{UNSIGNED}", allow=True)

    def registry(self) -> Registry:
        """Return a client of the registry that has its image."""
        return self.addition.client()

    @cached_property
    def _client(self) -> Any:
        return self.kube.client()

    def _await(self, image: str, *, allow: bool) -> None:
        """Wait until the API server says so twice: it may ask an old and a new webhook for a moment."""
        deadline = time.monotonic() + PROVEN_WITHIN
        last, right = "", 0
        while right < 2:  # noqa: PLR2004
            try:
                answer = self.review(image)
                right = right + 1 if answer.allow == allow else 0
                last = answer.message or "it was taken"
            except InfrastructureError as error:
                right, last = 0, str(error)
            if time.monotonic() > deadline:
                expected = "to be taken" if allow else "to be refused"
                raise VerdictError(last, where=f"a pod with {image}", expected=expected)
            time.sleep(steps.POLL)

    def _check_policy(self) -> None:
        from countersign.policy.load import load
        from countersign.policy.match import match

        scope, rule = match(load(self.settings.policy), self.repository)
        if rule.kind == "reject":
            raise UsageError(
                f"the policy does not let {self.repository} start",
                where=f"{self.settings.policy}: scopes{f'.{scope}' if scope else ''}",
                expected="a scope with the demo's key, for Kyverno passes the gate like any other image",
            )

    def _image(self) -> Path:
        """Return an OCI layout of Kyverno's admission controller, which is built if need be."""
        from countersign.nodes.files import sha256
        from countersign.oci.build import write_layout
        from countersign.tools.resolver import tool

        program = tool("kyverno", self.settings)
        folder = self.settings.cache / "kyverno-image" / sha256(program)[:12]
        if not (folder / "index.json").is_file():
            folder.mkdir(parents=True, exist_ok=True)
            write_layout(folder, "kyverno", {f"linux/{ARCHITECTURES[platform.machine()]}": program})
        return folder

    def _canary(self) -> Path:
        from countersign.oci import layout as layouts
        from countersign.oci.build import variant
        from countersign.tools.images import demo_layout

        demo = demo_layout(self.settings)
        folder = self.settings.cache / "admission-canary" / layouts.root(demo).digest.replace(":", "-")
        return folder if (folder / "index.json").is_file() else variant(demo, "admission-canary", folder)

    def _key(self) -> PrivateKey:
        from countersign.keys.pair import load_private
        from countersign.keys.password import read_file

        path = self.settings.keys / "cosign.key"
        beside = path.with_suffix(".password")
        return load_private(path, read_file(beside) if beside.is_file() else None)


def rendered(policy: Path) -> Document:
    """Return a policy.yaml as Kyverno reads it."""
    from countersign.policy.kyverno import render as render_policy
    from countersign.policy.load import load

    document: Document = yaml.safe_load(render_policy(load(policy)))
    return document


def pod(name: str, namespace: str, image: str) -> Mapping[str, Any]:
    """Return a pod with one container, which sleeps."""
    document: Mapping[str, Any] = yaml.safe_load(
        render(HERE / "pod.yaml.j2", name=name, namespace=namespace, image=image)
    )
    return document
