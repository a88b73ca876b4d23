"""A cluster's CountersignPolicy: the gate's policy with its keys inline, less what nodes add themselves."""

from __future__ import annotations

import json

from countersign.policy import canary, gate
from countersign.policy.model import Policy

API_VERSION = "countersign.dev/v1alpha1"


def render(policy: Policy) -> bytes:
    """Return a manifest for kubectl, as JSON. What nodes make of it is `gate.render`'s, byte by byte."""
    spec = json.loads(gate.render(policy))
    del spec["version"], spec["roots"][canary.ROOT], spec["scopes"][canary.REGISTRY]
    document = {
        "apiVersion": API_VERSION,
        "kind": "CountersignPolicy",
        "metadata": {"name": "policy"},
        "spec": spec,
    }
    return (json.dumps(document, sort_keys=True, indent=2) + "\n").encode()
