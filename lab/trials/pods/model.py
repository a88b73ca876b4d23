"""Scenarios as data, and what came of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict

HERE = Path(__file__).resolve().parent
SUBJECT = "subject"
SENTENCE = re.compile(r"countersign: refused \S+: ([A-Z_]{2,}): ")
PULL_REASONS = {"ErrImagePull", "ImagePullBackOff"}
Layer = Literal["pull", "create"]


class Scenario(BaseModel):
    """One entry of ``scenarios.yaml``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    kind: Literal["deployment", "init", "sidecar", "ephemeral", "static", "daemonset", "job", "volume", "pod"]
    image: Literal["pulled", "imported", "loaded"]
    policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    after: Literal["", "kubelet", "containerd", "gate", "node", "control-plane", "registry"] = ""
    other_handler: bool = False
    code: str = "UNSIGNED"


@dataclass(frozen=True)
class Trial:
    """A scenario with a signed or an unsigned image."""

    scenario: Scenario
    signed: bool

    @property
    def id(self) -> str:
        """Its name on the command line."""
        return f"pods/{self.scenario.name}/{'signed' if self.signed else 'unsigned'}"

    @property
    def object_name(self) -> str:
        """The name of its object in the cluster."""
        return f"{self.scenario.name}-{'signed' if self.signed else 'unsigned'}"

    @property
    def layer(self) -> Layer:
        """The layer that must decide."""
        return "create" if self.signed or self.scenario.image != "pulled" else "pull"

    @property
    def code(self) -> str:
        """The reason code that must come out."""
        return "OK" if self.signed else self.scenario.code


@dataclass(frozen=True)
class Seen:
    """What a pod's status says of the container on trial.

    Attributes:
        ran: it runs, or it ran to its end.
        code: the reason code in the message of a refusal.
        layer: where it was refused.
        message: of the refusal.
    """

    ran: bool = False
    code: str = ""
    layer: str = ""
    message: str = ""

    @property
    def decided(self) -> bool:
        """Whether it is known what came of it."""
        return self.ran or bool(self.code)


@dataclass(frozen=True)
class PodOutcome:
    """What came of a trial; no ``differences`` is good. ``seconds`` count from the object's creation."""

    trial: Trial
    seen: Seen
    nodes: tuple[str, ...]
    seconds: float
    differences: tuple[str, ...]


def load(path: Path = HERE / "scenarios.yaml") -> list[Trial]:
    """Return every trial, in the file's order."""
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    scenarios = [Scenario.model_validate(entry) for entry in document["scenarios"]]
    return [Trial(scenario, signed) for scenario in scenarios for signed in (True, False)]


def look(pod: Mapping[str, Any]) -> Seen:
    """Return what a pod's status says of the container on trial (Kubernetes API, core/v1 PodStatus)."""
    status = pod.get("status", {})
    groups = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
    for found in (each for group in groups for each in status.get(group) or () if each["name"] == SUBJECT):
        for state in (found.get("state", {}), found.get("lastState", {})):
            ended = state.get("terminated", {})
            if "running" in state or (ended and ended.get("exitCode") == 0):
                return Seen(ran=True)
            reason = ended or state.get("waiting", {})
            message = str(reason.get("message", ""))
            code = SENTENCE.search(message)
            if code:
                layer = "pull" if reason.get("reason") in PULL_REASONS else "create"
                return Seen(code=code[1], layer=layer, message=message)
    return Seen()


def judge(trial: Trial, seen: Sequence[Seen], nodes: Sequence[str], seconds: float) -> PodOutcome:
    """Compare what the pods of a trial show with what must come out; all of them have to agree."""
    differences = []
    first = next((each for each in seen if each.ran != trial.signed), seen[0] if seen else Seen())
    if not seen:
        differences.append("there is no pod")
    for each in seen:
        if not each.decided:
            differences.append("it neither ran nor showed a reason code")
        elif each.ran != trial.signed:
            differences.append("it ran" if each.ran else f"it was refused: {each.message}")
        elif not each.ran and each.code != trial.code:
            differences.append(f"code {each.code}, expected {trial.code}")
        elif not each.ran and each.layer != trial.layer:
            differences.append(f"{each.layer} decided, expected {trial.layer}")
    return PodOutcome(trial, first, tuple(nodes), seconds, tuple(dict.fromkeys(differences)))


def document(cluster: str, outcomes: Sequence[PodOutcome]) -> dict[str, Any]:
    """Return the JSON document ``countersign.pods/v1``; times are in milliseconds."""
    return {
        "version": "countersign.pods/v1",
        "runtime": "containerd",
        "node": cluster,
        "rows": [_row(outcome) for outcome in outcomes],
        "passed": sum(not outcome.differences for outcome in outcomes),
        "failed": sum(bool(outcome.differences) for outcome in outcomes),
    }


def _row(outcome: PodOutcome) -> dict[str, Any]:
    trial, seen = outcome.trial, outcome.seen
    return {
        "id": trial.id,
        "image": "signed" if trial.signed else "unsigned",
        "way": trial.scenario.name,
        "nodes": list(outcome.nodes),
        "layer": {"expected": trial.layer, "actual": seen.layer or "create"},
        "allow": {"expected": trial.signed, "actual": seen.ran},
        "code": {"expected": trial.code, "actual": "OK" if seen.ran else seen.code},
        "cri_ms": round(outcome.seconds * 1000),
        "gate_ms": None,
        "message": seen.message,
        "differences": list(outcome.differences),
        "repeat": f"./inv containerd.test --on kind --only {trial.id}",
    }
