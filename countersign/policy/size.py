"""How large a rendered policy may be: for a node's gate, and for a cluster's objects, which take less.

Lists of what is revoked make policies large: each may have 1 MiB, and there may be 16.
"""

from __future__ import annotations

from countersign.policy import cluster, gate
from countersign.policy.model import Policy
from countersign.policy.problems import PolicyInvalid, Problem

GATE = 4 << 20
"""Bytes that a gate reads (``MaxSize`` of gate/internal/policy)."""
CONFIG_MAP = 1 << 20
"""Bytes that the API server takes as the data of a ConfigMap."""
OBJECT = 1_500_000
"""Bytes of an object that etcd takes as it comes (1.5 MiB), less what the API server adds to it."""
_SHORTER = "take entries out of the lists of what is revoked that no longer matter"


def check(policy: Policy) -> None:
    """Raise ``PolicyInvalid`` for a policy that is too large for nodes."""
    _check(policy, gate.render(policy), GATE, "a gate reads")


def check_object(policy: Policy, content: bytes) -> None:
    """Raise ``PolicyInvalid`` for a CountersignPolicy that is too large for a cluster."""
    _check(policy, content, OBJECT, "a cluster stores as one object")


def note(policy: Policy) -> str:
    """Return what has to be known of a policy that does not fit all places where policies lie; else nothing."""
    size, whole = len(gate.render(policy)), len(cluster.render(policy))
    if whole > OBJECT:
        return f"revoked.lists: rendered it has {size} bytes, and a cluster stores {OBJECT} as one object: {_SHORTER}"
    if size > CONFIG_MAP:
        return (
            f"revoked.lists: rendered it has {size} bytes, and a ConfigMap takes {CONFIG_MAP}: in a cluster it has to"
            f" be a CountersignPolicy (policy.source), or {_SHORTER}"
        )
    return ""


def _check(policy: Policy, content: bytes, limit: int, who: str) -> None:
    if len(content) > limit:
        text = f"rendered it has {len(content)} bytes, and {limit} are what {who}: {_SHORTER}"
        raise PolicyInvalid([Problem(policy.path, 0, ("revoked", "lists"), text)])
