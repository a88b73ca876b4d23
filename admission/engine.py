"""An engine at admission on the cluster of the place ``kind``: what set-up and trials do with whichever it is."""

from __future__ import annotations

import platform
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import yaml

from admission import steps
from admission.kube import Answer, Kube, create_pod
from admission.manifests import HERE
from countersign.console.config import Settings
from countersign.console.errors import InfrastructureError, MissingError, UsageError, VerdictError
from countersign.console.steps import Step
from countersign.enforcement.additions import Addition, offered
from countersign.nodes.template import render
from countersign.oci.registry import Registry
from kind import cluster as clusters

if TYPE_CHECKING:
    from countersign.keys.pair import PrivateKey

UNSIGNED = "unsigned"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
PROVEN_WITHIN = 60.0


@dataclass(frozen=True)
class AtAdmission(ABC):
    """An engine on our cluster.

    Attributes:
        name: as ``--engine`` has it; also the name of its program and image.
        title: as users read it.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    settings: Settings = field(repr=False)

    @abstractmethod
    def steps(self) -> list[Step]:
        """Return what set-up does, but for the proof."""

    @abstractmethod
    def existed(self) -> bool:
        """Return whether there is one already."""

    @abstractmethod
    def removed(self) -> Step:
        """Return the step that takes it away."""

    @abstractmethod
    def parts(self) -> list[tuple[str, bool, str]]:
        """Return what ``admission.status`` shows: what, whether it is right, its state."""

    def mended_by(self) -> str:
        """Return what mends a part that is amiss."""
        return f"run ./inv admission.setup --engine {self.name}"

    @abstractmethod
    def limits(self) -> Sequence[str]:
        """Return what it does not see, with the layers that see it."""

    @abstractmethod
    def policy(self, source: Path) -> AbstractContextManager[None]:
        """Decide by another policy.yaml; the user's is put back whatever happens."""

    @abstractmethod
    def off(self) -> None:
        """Take the policy away, and wait until pods are admitted whatever they run."""

    @property
    def repository(self) -> str:
        """Where its image lies: in the scope of the demo's key, so that the gate lets it start like any other one."""
        return f"{self.addition.home}/demo/{self.name}"

    @property
    def version(self) -> str:
        """The pinned version."""
        from countersign.tools.recipes import lookup

        return lookup(self.name)[0].version

    def pushed(self, repository: str, tag: str, layout: Path) -> list[Step]:
        """Return the steps that bring an image into the registry, signed."""
        from countersign.oci.reference import parse

        signed = steps.Signed(self.registry, parse(f"{repository}:{tag}"), self._key)
        return [self.addition.pushed(repository, tag, layout), signed]

    @cached_property
    def kube(self) -> Kube:
        """The cluster. Raises NotThereYet when there is none."""
        found = clusters.require(self.settings)
        return Kube(found.nodes[0].node, found.kubeconfig)

    @cached_property
    def addition(self) -> Addition:
        """What the cluster is given beside enforcement: its registry has the engine's image.

        Raises:
            MissingError: there is no such registry.
        """
        found = offered().for_cluster(self.settings)
        if not found.home:
            raise MissingError(f"there is no registry for {self.title}'s image", do="see lab.setup")
        return found

    @property
    def canary(self) -> str:
        """Where the image lies that nobody signed."""
        return f"{self.addition.home}/demo/admission-canary"

    def prove(self) -> None:
        """Wait until the API server takes the engine's own image, and refuses the canary, which nobody signed.

        Raises:
            VerdictError: it does not.
        """
        signed, unsigned = f"{self.repository}:{self.version}", f"{self.canary}:{UNSIGNED}"
        self._await(signed, allow=True)
        self._await(unsigned, allow=False)

    def review(self, image: str, name: str = "proof", namespace: str = "default", *, dry_run: bool = True) -> Answer:
        """Return what the API server says to a pod with this image."""
        return create_pod(self._client, pod(name, namespace, image), dry_run=dry_run)

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
                expected=f"a scope with the demo's key, for {self.title} passes the gate like any other image",
            )

    def _canary(self) -> Path:
        from countersign.oci import layout as layouts
        from countersign.oci.build import variant
        from countersign.tools.images import demo_layout

        demo = demo_layout(self.settings)
        folder = self.settings.cache / "admission-canary" / layouts.root(demo).digest.replace(":", "-")
        return folder if (folder / "index.json").is_file() else variant(demo, "admission-canary", folder)

    def _key(self) -> PrivateKey:
        from countersign.keys import password
        from countersign.keys.pair import load_private

        path = self.settings.keys / "cosign.key"
        return load_private(path, password.beside(path))

    def image_of(self, program_name: str) -> Path:
        """Return an OCI layout with nothing but a program of ours or of the engine's, which is built if need be."""
        from countersign.nodes.files import sha256
        from countersign.oci.build import write_layout
        from countersign.tools.resolver import tool

        program = tool(program_name, self.settings)
        folder = self.settings.cache / f"{program_name}-image" / sha256(program)[:12]
        if not (folder / "index.json").is_file():
            folder.mkdir(parents=True, exist_ok=True)
            write_layout(folder, program_name, {f"linux/{ARCHITECTURES[platform.machine()]}": program})
        return folder


def pod(name: str, namespace: str, image: str) -> Mapping[str, Any]:
    """Return a pod with one container, which sleeps."""
    document: Mapping[str, Any] = yaml.safe_load(
        render(HERE / "pod.yaml.j2", name=name, namespace=namespace, image=image)
    )
    return document
