"""A policy for engines that know signatures by keys alone: all else is left to the gate, scope by scope, and named."""

from __future__ import annotations

from dataclasses import replace

from countersign.policy.model import Policy, Rule, Scope


def keys_only(policy: Policy) -> tuple[Policy, list[str]]:
    """Return the part of a policy that keys can say, and a line for each scope of which the gate decides the rest.

    Of ``allOf`` the keys stay. Where one of several roots by certificate would be enough (``anyOf``), or an
    attestation may stand for a signature, or where there are no others, the engine lets pass what the gate judges
    at every start. Attestations and formats are the gate's, and the signatures beside them stay; nothing else
    becomes weaker.
    """
    by_certificate = {name for name, root in policy.roots.items() if root.certificates}
    scopes, left = dict(policy.scopes), []
    for name, scope in policy.scopes.items():
        asked = _gates(scope.rule, by_certificate)
        if asked:
            scopes[name] = _without(scope, by_certificate)
            are = "is" if len(asked) == 1 else "are"
            left.append(f"scopes.{scope.written}: {', '.join(asked)} {are} judged by the gate alone")
    return replace(policy, scopes=scopes), left


def _gates(rule: Rule, by_certificate: set[str]) -> list[str]:
    """Return what of a rule only the gate can judge."""
    certificates = [root for root in rule.roots if root in by_certificate]
    return [
        *([f"{', '.join(certificates)} (by certificate)"] if certificates else []),
        *(["formats"] if rule.formats else []),
        *([f"signature: {rule.signature}"] if rule.signature else []),
        *(f"the attestation {each.type}" for each in rule.attestations),
    ]


def _without(scope: Scope, by_certificate: set[str]) -> Scope:
    rule = scope.rule
    keyed = tuple(root for root in rule.roots if root not in by_certificate)
    whole = len(keyed) == len(rule.roots) or rule.kind == "allOf"
    kept = Rule(rule.kind, keyed, rule.formats) if keyed and whole and not rule.signature else Rule("accept")
    return replace(scope, rule=kept)
