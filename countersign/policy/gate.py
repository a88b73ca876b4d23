"""The gate's policy: ``Policy`` → one self-contained JSON document, keys inline.

Canonical (sorted keys, two spaces, a newline at the end), so that equal policies are equal bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from countersign.console.errors import UsageError
from countersign.oci import reference
from countersign.policy.model import Policy, Root, Rule

VERSION = "countersign.policy/v1"


def render(policy: Policy, extra_pins: Iterable[str] = ()) -> bytes:
    """Return the gate's policy.

    Args:
        policy: the policy.
        extra_pins: "repository@sha256:…" beside those of the policy (the pause image that set-up built).

    Raises:
        UsageError: if an extra pin has no digest.
    """
    document = {
        "version": VERSION,
        "roots": {name: _root(root) for name, root in policy.roots.items()},
        "scopes": {name: _rule(scope.rule) for name, scope in policy.scopes.items()},
        "pinned": sorted({*policy.pinned, *(_pin(pin) for pin in extra_pins)}),
        "revoked": {
            "keys": sorted(set(policy.revoked_keys)),
            "certificates": [],
            "digests": sorted(set(policy.revoked_digests)),
        },
    }
    return (json.dumps(document, sort_keys=True, indent=2) + "\n").encode()


def _root(root: Root) -> dict[str, Any]:
    return {"publicKey": {"keys": [key.pem for key in root.keys]}}


def _rule(rule: Rule) -> dict[str, Any]:
    return {rule.kind: list(rule.roots)} if rule.roots else {rule.kind: True}


def _pin(text: str) -> str:
    ref = reference.parse(text)
    if ref.digest is None:
        raise UsageError(f"the pin {text!r} has no digest", expected=f"{ref.name}@sha256:<hex>")
    return str(ref)
