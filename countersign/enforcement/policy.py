"""The policy on a node."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from countersign.console.errors import InfrastructureError
from countersign.enforcement.ask import GateDown, ask
from countersign.enforcement.layout import Layout
from countersign.nodes.files import sha256, stats
from countersign.nodes.steps import File

if TYPE_CHECKING:
    from countersign.nodes.node import Node

IN_FORCE_WITHIN = 10.0


def render(policy: Path, pins: Iterable[str]) -> bytes:
    """Return the gate's policy from a policy.yaml, with the pins of a set-up added.

    Raises:
        UsageError: the policy is invalid; the message names file, line and key.
    """
    from countersign.policy.gate import render as render_for_gate
    from countersign.policy.load import load

    return render_for_gate(load(policy), tuple(pins))


def read_pins(path: Path) -> list[str]:
    """Return the pins that set-up wrote, or none."""
    if not path.is_file():
        return []
    pins: list[str] = json.loads(path.read_text(encoding="utf-8"))
    return pins


@dataclass(frozen=True)
class Policy:
    """A policy.yaml is on the node, in the gate's form.

    Attributes:
        layout: where it goes.
        source: the policy.yaml.
        pins: of the set-up.
        keys_to_come: a step before this one makes the keys that the policy names.
    """

    layout: Layout
    source: Path
    pins: tuple[str, ...]
    keys_to_come: bool = False

    @property
    def name(self) -> str:
        """What users read."""
        return f"policy {self.source}"

    def needed(self, node: Node) -> bool:
        """Return whether the node has another one."""
        if self.keys_to_come:
            return True
        found = stats(node, [self.layout.policy]).get(self.layout.policy)
        return found is None or found.sha256 != sha256(render(self.source, self.pins))

    def apply(self, node: Node) -> None:
        """Put it there; a gate that runs takes it up by itself."""
        self.file().apply(node)

    def file(self) -> File:
        """Return the rendered policy as it goes to the node."""
        return File(self.layout.policy, render(self.source, self.pins))

    def laid_out(self) -> list[File]:
        """See `countersign.enforcement.record.LaysOut`."""
        return [self.file()]

    def diff(self, node: Node) -> str:
        """See `countersign.console.steps.ShowsDiff`; nothing can be told while keys are to come."""
        return "" if self.keys_to_come else self.file().diff(node)


def in_force(node: Node, layout: Layout, wanted: bytes, timeout: float = IN_FORCE_WITHIN) -> None:
    """Wait until the gate decides by exactly this rendered policy.

    Raises:
        InfrastructureError: it does not after ``timeout`` seconds.
    """
    digest = f"sha256:{hashlib.sha256(wanted).hexdigest()}"
    deadline = time.monotonic() + timeout
    while (found := _policy_of(node, layout)) != digest:
        if time.monotonic() >= deadline:
            raise InfrastructureError(
                f"the gate decides by {found or 'no policy'}", where=layout.policy, expected=digest, do="read its log"
            )
        time.sleep(0.01)


def _policy_of(node: Node, layout: Layout) -> str:
    try:
        return str(ask(node, layout, "ping").get("policy", ""))
    except GateDown:
        return ""
