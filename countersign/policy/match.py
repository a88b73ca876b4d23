"""Which rule of a policy applies to a repository: the longest scope wins, on whole path components.

As in containers-policy.json(5), but without its wildcards. The gate decides alike; both are held to
``shared/vectors/scopes.json``.
"""

from __future__ import annotations

from countersign.policy.model import DEFAULT, Policy, Rule
from countersign.policy.scopes import parents


def match(policy: Policy, repository: str) -> tuple[str | None, Rule]:
    """Return the scope that applies and its rule; no scope and the default (reject) if none does.

    Args:
        repository: a normalised name with its registry (``Reference.name``).
    """
    for candidate in parents(repository):
        if candidate in policy.scopes:
            return candidate, policy.scopes[candidate].rule
    return None, DEFAULT
