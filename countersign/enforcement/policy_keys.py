"""Who signs policies: what set-up is told of it, and a node whose gate asks for it where set-up was told nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from countersign.console.errors import InfrastructureError, UsageError

if TYPE_CHECKING:
    from countersign.console.config import Settings
    from countersign.enforcement.layout import Layout
    from countersign.keys.pair import PrivateKey
    from countersign.nodes.node import Node

KEY = "policykeys"
"""In lower case: Go takes a key of JSON in any."""


@dataclass(frozen=True)
class Signing:
    """Who signs policies of a set-up.

    Attributes:
        keys: public keys, PEM, for gate.json.
        key: opens the one that signs; a person is asked for its password once at most.
    """

    keys: tuple[str, ...]
    key: Callable[[], PrivateKey]


def signing(settings: Settings) -> Signing | None:
    """Return who signs policies by the settings; None for nobody.

    Raises:
        UsageError: a key cannot be read, or the one that signs is none of those that may.
    """
    if not settings.policy_key:
        return None
    from countersign.keys.pair import load_public
    from countersign.keys.source import private_key

    key = cache(lambda: private_key(settings.policy_key, settings.environment))
    own = key().public.pem
    keys = tuple(load_public(path).pem for path in settings.policy_keys) or (own,)
    if own not in keys:
        raise UsageError(
            "is none of policy_keys, so that no gate would take its policies",
            where=f"policy_key: {settings.policy_key}",
            do="name its public half among policy_keys (./inv signing.public-key shows it)",
        )
    return Signing(keys, key)


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
                expected="policy_key and policy_keys in the configuration, or a gate.json without policyKeys",
                do="set them to sign policies at set-up, change the policy with policy.apply --key, or take them out",
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
