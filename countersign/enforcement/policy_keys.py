"""A node whose gate asks for a signed policy goes on doing so: set-up, which signs none, refuses to touch it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from countersign.console.errors import InfrastructureError

if TYPE_CHECKING:
    from countersign.enforcement.layout import Layout
    from countersign.nodes.node import Node

KEY = "policykeys"
"""In lower case: Go takes a key of JSON in any."""


@dataclass(frozen=True)
class Unsigned:
    """The node's gate.json has no ``policyKeys``, which set-up would drop with the file."""

    node: Node
    layout: Layout
    name: str = "no policyKeys that set-up would drop"

    def needed(self) -> bool:
        """Return False: there is nothing to change.

        Raises:
            InfrastructureError: the node's gate.json has them.
        """
        path = self.layout.gate_config
        if self.node.exists(path) and asked_for(self.node.get(path)):
            raise InfrastructureError(
                f"{path} has policyKeys, without which this node would take unsigned policies",
                where=self.node.name,
                expected="a gate.json without them, as set-up writes it",
                do="change its policy with policy.apply --key; to set it up anew, take policyKeys out of the file",
            )
        return False

    def apply(self) -> None:
        """Change nothing."""


def asked_for(gate_config: bytes) -> bool:
    """Return whether a gate.json asks for signatures of the policy; one that is not JSON runs no gate."""
    try:
        document = json.loads(gate_config.decode(errors="replace"))
    except (ValueError, RecursionError):
        return False
    return isinstance(document, dict) and any(key.lower() == KEY and document[key] is not None for key in document)
