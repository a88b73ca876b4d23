"""Which rule of a policy applies to an image, and why: from the name alone, without asking a registry."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from countersign.oci import reference
from countersign.policy.match import match
from countersign.policy.model import DEFAULT, Policy, Rule
from countersign.policy.problems import shown
from countersign.policy.scopes import parents


@dataclass(frozen=True)
class Candidate:
    """A scope that could have applied: what the policy says of it, and whether it is the one."""

    scope: str
    where: str
    rule: Rule | None
    applies: bool


@dataclass(frozen=True)
class KeyLine:
    """One key of a root that the rule names."""

    root: str
    fingerprint: str
    kind: str
    revoked: bool


@dataclass(frozen=True)
class Explanation:
    """What the policy says of one name.

    Attributes:
        reference: in full, "" if the name is an image ID.
        digest: the digest that it names, "" for a tag.
        candidates: the scopes that cover it, longest first.
        scope: the one that applies, "" if none does.
        rule: what holds.
        keys: the keys of the roots that the rule names.
        identities: root → whom it trusts by certificate, of the roots that the rule names.
        attestations: what else the rule asks for, in words.
        pins: what is pinned of this digest, or of this repository if no digest is named.
        revoked: whether the named digest is revoked.
        lists: of what is revoked, which the policy includes: a line each.
    """

    name: str
    reference: str
    digest: str
    candidates: list[Candidate]
    scope: str
    rule: Rule
    keys: list[KeyLine]
    identities: dict[str, str]
    attestations: list[str]
    pins: list[str]
    revoked: bool
    lists: list[str]

    @property
    def because(self) -> str:
        """Why the rule holds, in one sentence."""
        if not self.reference:
            return "an image ID has no repository and so no scope: only a pin can allow it"
        if not self.scope:
            return "no scope matches, so the default holds: reject"
        return f"{self.scope} is the longest scope that matches"

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "image": self.name,
            "reference": self.reference,
            "digest": self.digest,
            "candidates": [vars(one) | {"rule": str(one.rule) if one.rule else ""} for one in self.candidates],
            "scope": self.scope,
            "rule": str(self.rule),
            "because": self.because,
            "keys": [vars(key) for key in self.keys],
            "identities": self.identities,
            "attestations": self.attestations,
            "pins": self.pins,
            "revoked": self.revoked,
            "lists": self.lists,
        }


def explain(policy: Policy, name: str) -> Explanation:
    """Explain what a policy says of an image.

    Args:
        name: what a pod would name: a reference, or an image ID.

    Raises:
        BadReference: if it is neither.
    """
    lists = [str(each) for each in policy.lists]
    if reference.is_id(name):
        digest = name if name.startswith("sha256:") else f"sha256:{name}"
        return Explanation(
            name, "", digest, [], "", DEFAULT, [], {}, [], _pins(policy, digest), _revoked(policy, digest), lists
        )
    ref = reference.parse(name)
    scope, rule = match(policy, ref.name)
    pins = _pins(policy, ref.digest or f"{ref.name}@")
    candidates = [_candidate(policy, one, scope) for one in parents(ref.name)]
    digest = ref.digest or ""
    roots = dict.fromkeys((*rule.roots, *(by for each in rule.attestations for by in each.by)))
    identities = {root: found for root in roots if (found := policy.roots[root].identity)}
    keys, revoked, asked = _keys(policy, roots), _revoked(policy, digest), [str(each) for each in rule.attestations]
    return Explanation(
        name, str(ref), digest, candidates, scope or "", rule, keys, identities, asked, pins, revoked, lists
    )


def _candidate(policy: Policy, name: str, winner: str | None) -> Candidate:
    scope = policy.scopes.get(name)
    if scope is None:
        return Candidate(name, "", None, applies=False)
    return Candidate(name, f"{shown(policy.path)}:{scope.line}", scope.rule, applies=name == winner)


def _keys(policy: Policy, roots: Iterable[str]) -> list[KeyLine]:
    return [
        KeyLine(name, key.fingerprint, key.kind, key.fingerprint in policy.revoked_keys)
        for name in roots
        for key in policy.roots[name].keys
    ]


def _pins(policy: Policy, part: str) -> list[str]:
    """Return the pins of a digest ("sha256:…") or of a repository ("name@")."""
    return [pin for pin in policy.pinned if pin.startswith(part) or pin.endswith(f"@{part}")]


def _revoked(policy: Policy, digest: str) -> bool:
    return digest in policy.revoked_digests
