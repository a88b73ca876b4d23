"""Kyverno on the cluster of the place ``kind``: what set-up does, and what there is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import yaml

from admission import manifests, steps
from admission.engine import UNSIGNED, AtAdmission
from admission.manifests import Document
from countersign.console.steps import Step
from kind import cluster as clusters


@dataclass(frozen=True)
class Kyverno(AtAdmission):
    """Kyverno on our cluster."""

    name: ClassVar[str] = "kyverno"
    title: ClassVar[str] = "Kyverno"

    def steps(self) -> list[Step]:
        """Return what set-up does, but for the proof.

        Raises:
            UsageError: the policy would not let Kyverno's own image start.
        """
        self._check_policy()
        return [
            *self.pushed(self.repository, self.version, self.image_of(self.name)),
            self.addition.pushed(self.canary, UNSIGNED, self._canary()),
            steps.Installed(self.kube, self.documents(), self.version),
            steps.InForce(self.kube, rendered(self.settings.policy)),
        ]

    def documents(self) -> list[Document]:
        """Return all objects but the policy."""
        config = (clusters.folder(self.settings) / "etc" / "docker.json").read_text(encoding="utf-8")
        released = manifests.release(self.settings)
        return manifests.adapt(released, f"{self.repository}:{self.version}", self.addition.ca.decode(), config)

    def existed(self) -> bool:
        """Return whether there is one already."""
        return steps.deployment(self.kube) is not None

    def limits(self) -> Sequence[str]:
        """Return what it does not see, with the layers that see it."""
        from countersign.policy.kyverno import LIMITS

        return LIMITS["kyverno"]

    def parts(self) -> list[tuple[str, bool, str]]:
        """Return what ``admission.status`` shows: what, whether it is right, its state."""
        controller = steps.deployment(self.kube)
        policy = self.kube.get(steps.POLICY, steps.NAME)
        runs = controller is not None and steps.running(controller)
        found = [("Kyverno's admission controller", runs, "runs" if runs else "down" if controller else "missing")]
        if policy is None:
            return [*found, ("policy", False, "missing")]
        same, ready = steps.holds(rendered(self.settings.policy), policy), steps.ready(policy)
        state = "differs from policy.yaml" if not same else "in force" if ready else "not ready"
        return [*found, ("policy", same and ready, state)]

    def removed(self) -> Step:
        """Return the step that takes it away."""
        return steps.Removed(self.kube, self.documents)

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


def rendered(policy: Path) -> Document:
    """Return a policy.yaml as Kyverno reads it."""
    from countersign.policy.kyverno import render as render_policy
    from countersign.policy.load import load

    document: Document = yaml.safe_load(render_policy(load(policy)))
    return document
