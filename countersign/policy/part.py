"""The part of a policy that another engine than the gate can judge; the rest is the gate's, and named scope by scope.

What an engine judges is never less than the policy asks. Where one of several roots would be enough (``anyOf``) and
the engine cannot judge each of them, or an attestation may stand for a signature and it reads none, it lets pass what
the gate judges at every start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from countersign.policy.model import Attestation, Policy, Root, Rule, Scope


@dataclass(frozen=True)
class Engine:
    """What an engine can judge.

    Attributes:
        name: in a sentence.
        root: why it cannot judge signatures of a root; empty where it can.
        attests: why it cannot judge attestations by a root; empty where it can. Without it, it reads none.
        condition: why it cannot judge a condition of an attestation; empty where it can.
        beside: what of a root that it judges is the gate's all the same.
        reads: the formats of signatures that it reads.
        standing: whether it can take an attestation for a signature.
        alternatives: whether a certificate can be one of several roots of which any is enough.
    """

    name: str
    root: Callable[[Root], str]
    attests: Callable[[Root], str] | None = None
    condition: Callable[[str], str] | None = None
    beside: Callable[[Root], Iterable[str]] | None = None
    reads: tuple[str, ...] = ("attachment",)
    standing: bool = False
    alternatives: bool = True


def part(policy: Policy, engine: Engine) -> tuple[Policy, list[str]]:
    """Return the part of a policy that an engine can judge, and for each scope with more a line that names the rest."""
    scopes, left = dict(policy.scopes), []
    for name, scope in policy.scopes.items():
        scopes[name], rest = _of_scope(scope, policy, engine)
        if rest:
            are = "is" if len(rest) == 1 else "are"
            left.append(f"scopes.{scope.written}: {', '.join(rest)} {are} judged by the gate alone")
    return replace(policy, scopes=scopes), left


def _of_scope(scope: Scope, policy: Policy, engine: Engine) -> tuple[Scope, list[str]]:
    rule = scope.rule
    reasons = {name: why for name in rule.roots if (why := _why_not(rule, policy.roots[name], engine))}
    rest = [f"{name} ({why})" for name, why in reasons.items()]
    reads = not rule.formats or any(each in engine.reads for each in rule.formats)
    if not reads:
        rest.append(f"signatures in the format {' or '.join(rule.formats)}")
    if rule.signature and not engine.standing:
        rest.append(f"signature: {rule.signature}")
    attestations, more = _attestations(rule, policy, engine)
    roots = tuple(name for name in rule.roots if name not in reasons)
    whole = (rule.kind == "allOf" or not reasons) and reads and (engine.standing or not rule.signature)
    if roots and whole:
        beside = engine.beside
        rest += [each for name in roots if beside for each in beside(policy.roots[name])]
        kept = replace(rule, roots=roots, attestations=attestations)
    elif rule.roots:
        kept = Rule("accept", attestations=attestations)
    else:
        kept = rule
    return replace(scope, rule=kept), [*rest, *more]


def _why_not(rule: Rule, root: Root, engine: Engine) -> str:
    one_of = rule.kind == "anyOf" and len(rule.roots) > 1 and root.certificates is not None
    if one_of and not engine.alternatives:
        return f"{engine.name} takes no certificate beside other roots in anyOf"
    return engine.root(root)


def _attestations(rule: Rule, policy: Policy, engine: Engine) -> tuple[tuple[Attestation, ...], list[str]]:
    """Return what stays with the engine of what is asked, and the rest in words."""
    kept, rest = [], []
    for asked in rule.attestations:
        judges = engine.attests
        reasons = [why for name in asked.by if judges and (why := judges(policy.roots[name]))]
        if reasons or not judges:
            rest.append(" ".join([f"the attestation {asked.type}", *(f"({why})" for why in reasons[:1])]))
            continue
        unsaid = engine.condition(asked.where) if asked.where and engine.condition else ""
        kept.append(replace(asked, where="" if unsaid else asked.where, max_age=0))
        rest += _unsaid(asked, unsaid)
    return tuple(kept), rest


def _unsaid(asked: Attestation, why: str) -> Iterator[str]:
    if why:
        yield f"the condition on the attestation {asked.type} ({why})"
    if asked.max_age:
        yield f"the age of the attestation {asked.type}"
