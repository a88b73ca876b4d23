"""Scenarios as data, and what came of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict

from countersign.enforcement.refusal import code_of
from lab.trials.rows import OK, Found, Layer, Outcome, Row, compare

HERE = Path(__file__).resolve().parent
SUBJECT = "subject"
PULL_REASONS = {"ErrImagePull", "ImagePullBackOff"}


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
class PodRow(Row):
    """A scenario with a signed or an unsigned image."""

    image: str
    way: str
    code: str
    layer: Layer
    scenario: Scenario

    @property
    def id(self) -> str:
        """Its name on the command line."""
        return f"pods/{self.way}/{self.image}"

    @property
    def object_name(self) -> str:
        """The name of its object in the cluster."""
        return f"{self.way}-{self.image}"


def twins(scenario: Scenario) -> tuple[PodRow, PodRow]:
    """Return a scenario's two trials: one starts, and of the other it is known at which layer it is refused."""
    refused_at: Layer = "pull" if scenario.image == "pulled" else "create"
    return (
        PodRow("signed", scenario.name, OK, "create", scenario),
        PodRow("unsigned", scenario.name, scenario.code, refused_at, scenario),
    )


def load(path: Path = HERE / "scenarios.yaml") -> list[PodRow]:
    """Return every trial, in the file's order."""
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    scenarios = [Scenario.model_validate(entry) for entry in document["scenarios"]]
    return [row for scenario in scenarios for row in twins(scenario)]


def look(pod: Mapping[str, Any]) -> Found | None:
    """Return what a pod's status says of the container on trial (Kubernetes API, core/v1 PodStatus).

    None: it neither ran nor was refused, as far as is known.
    """
    status = pod.get("status", {})
    groups = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
    for found in (each for group in groups for each in status.get(group) or () if each["name"] == SUBJECT):
        for state in (found.get("state", {}), found.get("lastState", {})):
            ended = state.get("terminated", {})
            if "running" in state or (ended and ended.get("exitCode") == 0):
                return Found(True, code=OK)
            reason = ended or state.get("waiting", {})
            message = str(reason.get("message", ""))
            code = code_of(message)
            if code:
                return Found(False, "pull" if reason.get("reason") in PULL_REASONS else "create", code, message)
    return None


def judge(row: PodRow, seen: Sequence[Found | None], nodes: Sequence[str], seconds: float) -> Outcome:
    """Compare what the pods of a trial show with what must come out; all of them have to agree.

    Args:
        seconds: from the object's creation until all was known.
    """
    outcomes = [compare(row, found) for found in seen if found]
    shown = next((each for each in outcomes if each.differences), outcomes[0] if outcomes else None)
    found = shown.found if shown else Found(False)
    differences = [text for each in outcomes for text in each.differences]
    if not seen:
        differences.append("there is no pod")
    if None in seen:
        differences.append("it neither ran nor showed a reason code")
    found = replace(found, millis=seconds * 1000, nodes=tuple(nodes))
    return Outcome(row, found, tuple(dict.fromkeys(differences)))
