"""Gatekeeper's side of the policy: what its provider decides by, and the constraint that asks the provider.

The provider (``countersign-gate provider``) has the gate's own engine and policy, so nothing of the policy is
translated: roots of every kind, attestations and pins mean what they mean on a node. ``LIMITS`` names what it does not
see.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from countersign.nodes.template import render as fill
from countersign.policy import gate
from countersign.policy.model import Policy

HERE = Path(__file__).resolve().parent
NAMESPACE = "gatekeeper-system"
"""Where Gatekeeper and the provider run."""
KIND, NAME = "CountersignImages", "countersign"
"""The constraint."""
DIGEST = "countersign/policy"
"""On the constraint: the SHA-256 of the policy that the provider has."""

LIMITS = (
    "a tag that moves after admission is judged at pull and at create",
    "static pods, and namespaces that Gatekeeper leaves out, are judged at pull and at create",
    "of an image of several platforms the provider judges its own node's; others are judged at pull and at create",
)
"""What is not seen at admission, and the layers that see it instead."""


def render(policy: Policy) -> bytes:
    """Return the provider's policy (a ConfigMap), the ConstraintTemplate and the constraint, as YAML.

    Equal policies give equal bytes.
    """
    document = gate.render(policy)
    return fill(
        HERE / "gatekeeper.yaml.j2",
        namespace=NAMESPACE,
        kind=KIND,
        name=NAME,
        annotation=DIGEST,
        policy=document.decode(),
        digest=f"sha256:{hashlib.sha256(document).hexdigest()}",
        rego=(HERE / "gatekeeper.rego").read_text(encoding="utf-8"),
        limits=LIMITS,
    )
