"""A policy for engines that know keys alone: what else it asks for is left to the gate, scope by scope, and named."""

from __future__ import annotations

from dataclasses import replace

from countersign.policy.model import Policy, Rule, Scope


def keys_only(policy: Policy) -> tuple[Policy, list[str]]:
    """Return the part of a policy that keys can say, and a line for each scope of which the gate decides the rest.

    Of ``allOf`` the keys stay. Where one of several roots by certificate would be enough (``anyOf``), or where
    there are no others, the engine lets pass what the gate judges at every start; nothing else becomes weaker.
    """
    by_certificate = {name for name, root in policy.roots.items() if root.certificates}
    scopes, left = dict(policy.scopes), []
    for name, scope in policy.scopes.items():
        asked = [root for root in scope.rule.roots if root in by_certificate]
        if asked:
            scopes[name] = _without(scope, by_certificate)
            left.append(f"scopes.{scope.written}: {', '.join(asked)} (by certificate) is judged by the gate alone")
    return replace(policy, scopes=scopes), left


def _without(scope: Scope, by_certificate: set[str]) -> Scope:
    keyed = tuple(root for root in scope.rule.roots if root not in by_certificate)
    kept = Rule("allOf", keyed) if scope.rule.kind == "allOf" and keyed else Rule("accept")
    return replace(scope, rule=kept)
