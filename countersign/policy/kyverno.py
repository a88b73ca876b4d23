"""Kyverno's policies: ``Policy`` → ``ImageValidatingPolicy``, or a ``ClusterPolicy`` with ``verifyImages``.

Where Kyverno cannot say what the policy says, what is rendered refuses more, or another layer refuses what Kyverno
cannot see: ``LIMITS`` names all of it, and so does an annotation of the rendered policy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from countersign.nodes.template import render as fill
from countersign.policy import kyverno_certificates as certificates
from countersign.policy.kyverno_certificates import Entry
from countersign.policy.model import Attestation, Keyless, Pki, Policy, Root, Rule, Scope
from countersign.policy.part import Engine, part

HERE = Path(__file__).resolve().parent
BUNDLE = "/bundle"
"""Ends the name of a key's second attestor; no root's name has a slash."""
HUB = "docker.io"
KYVERNOS_HUB = "index.docker.io"

COPIED = (
    "the repository that an attachment names is not compared: a copy from elsewhere is refused at pull and at create"
)
MOVED = "a tag that moves after admission is judged at pull and at create"
UNSEEN = "static pods, and namespaces that Kyverno's own configuration filters out, are judged at pull and at create"
VOLUMES = "images of volumes are judged at pull and at create"
CERTIFICATES = "roots by certificate (keyless, pki, notation) are judged at pull and at create"
NAMES = "what else a certificate is for, and revoked.certificates, is judged at pull and at create"
CHAINS = (
    "refused though the policy allows it: a certificate without the chain that it needs beside it, one that has ended"
    " and has a timestamp, and one without the time of a Rekor v1"
)
ATTESTATIONS = "attestations are judged at pull and at create"
AGE = "how old an attestation is, and what its condition may cost, is judged at pull and at create"
STATEMENTS = "a signature's statement that is attached as cosign 2 attaches attestations counts as a signature"
SEVERAL = (
    "refused though the policy allows it: an image with several attestations of one type by one signer, where the"
    " condition does not hold for the one that Kyverno reads last"
)
PLATFORMS = (
    "refused though the policy allows it: an image that is signed for its platforms alone, for pods name its index"
)
PINS = "refused though the policy allows it: a pin of a platform or config, where a pod names the index"
ONE_FORMAT = "refused though the policy allows it: an image that is signed as bundle alone, for a rule reads one format"
PINS_BY_NAME = "refused though the policy allows it: a pin in a scope with roots, where a pod does not name the digest"

LIMITS = {
    "kyverno": (COPIED, MOVED, UNSEEN, CERTIFICATES, AGE, STATEMENTS, PLATFORMS, PINS, SEVERAL),
    "kyverno-verifyimages": (
        *(COPIED, UNSEEN, VOLUMES, NAMES, ATTESTATIONS),
        *(PLATFORMS, PINS, ONE_FORMAT, CHAINS, PINS_BY_NAME),
    ),
}
"""Engine → what its policy cannot say, and the layers that say it instead."""
_TEXTS = re.compile(
    r"""("{3}|'{3})(?:\\.|.)*?\1|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|//[^\n]*""",
    re.DOTALL,
)
_RAW = re.compile(r"""\b[rRbB]{1,2}["']""")
_CALCULATES = re.compile(r"[/%]|\b(?:type|string|int|uint|double|dyn|bytes)\b|\d{16}")


def _by_certificate(root: Root) -> str:
    match root.certificates:
        case None:
            return ""
        case Keyless():
            return "keyless: Kyverno 1.19 wants a TUF repository of the network even where it is given a trusted root"
        case Pki():
            return "pki: Kyverno takes certificates of a Fulcio, or one certificate itself"
    return "notation: Kyverno compares no subjects"


def _condition(text: str) -> str:
    """Return why Kyverno may say otherwise of a condition: every number in an attestation is a float to it."""
    if _RAW.search(text):
        return "it has raw strings, which are not looked into here"
    bare = _TEXTS.sub('""', text)
    return "it calculates, and Kyverno knows no whole numbers" if _CALCULATES.search(bare) else ""


VALIDATING = Engine(
    "Kyverno", _by_certificate, _by_certificate, _condition, reads=("bundle", "attachment"), standing=True
)
VERIFY_IMAGES = Engine("Kyverno", certificates.why_not, beside=certificates.beside)
ENGINES = {"kyverno": VALIDATING, "kyverno-verifyimages": VERIFY_IMAGES}


@dataclass(frozen=True)
class Asked:
    """An attestation: its name in the policy, by which attestors, and what has to be true of it."""

    name: str
    asked: Attestation
    attestors: Sequence[str]


@dataclass(frozen=True)
class Validation:
    """A scope's rule.

    Attributes:
        scope, spelled: its name, as the policy has it and as Kyverno does.
        rule: what the policy asks for.
        roots: root by root the names of its attestors; nothing at all for a scope that rejects.
        ways: in which a signature counts: ``bundle``, ``attachment``, or an attestation's name.
        attestations: what else is asked for.
    """

    scope: str
    spelled: str
    rule: Rule
    roots: Sequence[Sequence[str]]
    ways: Sequence[str]
    attestations: Sequence[Asked]


@dataclass(frozen=True)
class Test:
    """A list, and whether to deny what is in it (``AnyIn``) or what is not (``AnyNotIn``)."""

    operator: str
    value: Sequence[str]


@dataclass(frozen=True)
class Check:
    """What a ``validate`` rule denies: an image for which all tests hold."""

    name: str
    message: str
    digests: Sequence[Test]
    repositories: Sequence[Test]


@dataclass(frozen=True)
class Verification:
    """A ``verifyImages`` rule: globs of images, and root by root the entries of which one must have signed."""

    name: str
    references: Sequence[str]
    skipped: Sequence[str]
    roots: Sequence[Sequence[Entry]]


def render(policy: Policy) -> bytes:
    """Return Kyverno's ``ImageValidatingPolicy``, as Kyverno 1.19 reads it.

    Equal policies give equal bytes.
    """
    policy, _ = part(policy, VALIDATING)
    scopes = _longest_first(policy)
    types = _types(policy)
    return fill(
        HERE / "imagevalidatingpolicy.yaml.j2",
        limits=LIMITS["kyverno"],
        keys=_keys(policy),
        bundle=BUNDLE,
        scopes=[_spelled(scope) for scope in scopes],
        pins=_pinned_digests(policy),
        revoked=sorted(set(policy.revoked_digests)),
        types=types,
        hub=KYVERNOS_HUB,
        validations=[
            _validation(policy, scope, types)
            for scope in scopes
            if scope.rule.kind != "accept" or scope.rule.attestations
        ],
    )


def render_verify_images(policy: Policy) -> bytes:
    """Return the ``ClusterPolicy`` for clusters whose Kyverno has no ``ImageValidatingPolicy``.

    Equal policies give equal bytes.
    """
    policy, _ = part(policy, VERIFY_IMAGES)
    scopes = _longest_first(policy)
    return fill(
        HERE / "verifyimages.yaml.j2",
        limits=LIMITS["kyverno-verifyimages"],
        checks=list(_checks(policy, scopes)),
        verifications=list(_verifications(policy, scopes)),
        nowhere=certificates.NOWHERE,
    )


def _types(policy: Policy) -> dict[str, str]:
    """Return predicate type → the name of its attestations in the policy, which an expression can say."""
    rules = [scope.rule for scope in policy.scopes.values()]
    types = {each.type for rule in rules for each in rule.attestations} | {rule.signature for rule in rules}
    return {name: f"type{number}" for number, name in enumerate(sorted(types - {""}), 1)}


def _validation(policy: Policy, scope: Scope, types: Mapping[str, str]) -> Validation:
    rule = scope.rule
    ways = [way for way in ("bundle", "attachment") if way in (rule.formats or ("bundle", "attachment"))]
    standing = [types[rule.signature]] if rule.signature else []
    asked = [
        Asked(types[each.type], each, [name for names in _attestors(policy, each.by) for name in names])
        for each in rule.attestations
    ]
    return Validation(scope.name, _spelled(scope), rule, _signers(policy, rule), [*ways, *standing], asked)


def _longest_first(policy: Policy) -> list[Scope]:
    return [policy.scopes[name] for name in sorted(policy.scopes, key=lambda name: (-name.count("/"), name))]


def _pinned_digests(policy: Policy) -> list[str]:
    """Return the digests of all pins: the gate asks no more of a pinned image either."""
    return sorted({pin.partition("@")[2] for pin in policy.pinned})


def _keys(policy: Policy) -> dict[str, str]:
    """Return attestor name (``root/number``) → PEM, without revoked keys."""
    return {
        f"{name}/{number}": key.pem
        for name, root in sorted(policy.roots.items())
        for number, key in enumerate(root.keys, 1)
        if key.fingerprint not in policy.revoked_keys
    }


def _signers(policy: Policy, rule: Rule) -> list[list[str]]:
    """Return root by root the attestors of a rule."""
    return _attestors(policy, rule.roots)


def _by_root(policy: Policy, rule: Rule) -> list[tuple[str, list[str]]]:
    return list(zip(rule.roots, _signers(policy, rule), strict=True))


def _attestors(policy: Policy, roots: Sequence[str]) -> list[list[str]]:
    """Return root by root the attestors; nothing fulfils a root whose keys are all revoked: it has none."""
    names = list(_keys(policy))
    return [[name for name in names if name.rpartition("/")[0] == root] for root in roots]


def _refuses_all(policy: Policy, scope: Scope) -> bool:
    """Return whether a scope rejects, or asks for keys that are all revoked."""
    some = [bool(names) or bool(policy.roots[root].certificates) for root, names in _by_root(policy, scope.rule)]
    return {"accept": False, "reject": True, "anyOf": not any(some), "allOf": not all(some)}[scope.rule.kind]


def _below(scope: Scope, scopes: Sequence[Scope]) -> list[Scope]:
    return [other for other in scopes if other.name.startswith(f"{scope.name}/")]


def _checks(policy: Policy, scopes: Sequence[Scope]) -> Iterator[Check]:
    """Yield what is denied whatever is signed."""
    revoked, pins = sorted(set(policy.revoked_digests)), _pinned_digests(policy)
    if revoked:
        yield Check("revoked", "countersign: REVOKED: an image's digest is revoked", [Test("AnyIn", revoked)], [])
    unpinned = [Test("AnyNotIn", pins)] if pins else []
    unknown = [Test("AnyNotIn", _repositories(scopes))]
    yield Check("scope", "countersign: NO_SCOPE: no scope of the policy has an image of this pod", unpinned, unknown)
    for scope in scopes:
        if _refuses_all(policy, scope):
            below = _below(scope, scopes)
            here = [Test("AnyIn", _repositories([scope])), *([Test("AnyNotIn", _repositories(below))] if below else [])]
            yield Check(f"reject {scope.name}", f"countersign: REJECTED_BY_SCOPE: {scope.name}", unpinned, here)


def _verifications(policy: Policy, scopes: Sequence[Scope]) -> Iterator[Verification]:
    keys, pins = _keys(policy), _pinned_digests(policy)
    for scope in scopes:
        if not scope.rule.roots or _refuses_all(policy, scope):
            continue
        skipped = [glob for other in _below(scope, scopes) for glob in _references(other)]
        signers = [
            [*(Entry(keys[name]) for name in names), *certificates.entries(policy.roots[root])]
            for root, names in _by_root(policy, scope.rule)
        ]
        roots = signers if scope.rule.kind == "allOf" else [[each for entries in signers for each in entries]]
        yield Verification(scope.name, _references(scope), [*skipped, *(f"*@{pin}" for pin in pins)], roots)


def _repositories(scopes: Sequence[Scope]) -> list[str]:
    """Return globs of the repositories that scopes cover, with Kyverno's name for Docker Hub."""
    return [glob for scope in scopes for glob in (_spelled(scope), f"{_spelled(scope)}/*")]


def _references(scope: Scope) -> list[str]:
    """Return globs of the images that a scope covers; ``registry:*`` would be another registry, with a port."""
    ends = (":*", "@*", "/*") if "/" in scope.name else ("/*",)
    return [scope.name + end for end in ends]


def _spelled(scope: Scope) -> str:
    """Return a scope as the images in it begin where Kyverno has parsed them."""
    on_hub = f"{scope.name}/".startswith(f"{HUB}/")
    return KYVERNOS_HUB + scope.name.removeprefix(HUB) if on_hub else scope.name
