"""The notation CLI's policy: ``Policy`` → ``trustpolicy.json`` and its trust stores (Notary Project specifications).

Its scopes are whole repositories, it has one trust store and one list of identities a statement, and it knows neither
keys nor lists of revocations. What it cannot say is left out, so that it refuses, and named (`left_out`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from countersign.policy.identities import in_spec
from countersign.policy.model import Notation, Policy, Scope

LIMITS = (
    "revoked.digests, revoked.keys and crls are judged by the gate alone; notation asks the network for revocations",
    "a scope is one repository here: those below it are refused",
)
TRUST_POLICY = "trustpolicy.json"


def render(policy: Policy) -> bytes:
    """Return ``trustpolicy.json``: a statement for each root, of the repositories that ask for it alone.

    Equal policies give equal bytes.
    """
    named: dict[str, list[str]] = {}
    for scope in policy.scopes.values():
        if not _why_not(policy, scope):
            named.setdefault(_roots(policy, scope)[0], []).append(scope.name)
    statements = [_statement(name, sorted(scopes), _notation(policy, name)) for name, scopes in sorted(named.items())]
    return (json.dumps({"version": "1.0", "trustPolicies": statements}, indent=2) + "\n").encode()


def files(policy: Policy) -> dict[str, bytes]:
    """Return what belongs into notation's configuration folder: path → content."""
    statements = json.loads(render(policy))["trustPolicies"]
    stores = {
        f"truststore/x509/{kind}/{statement['name']}/{number}.pem": text.encode()
        for statement in statements
        for kind, texts in _stores(_notation(policy, statement["name"])).items()
        for number, text in enumerate(texts, 1)
    }
    return {**stores, TRUST_POLICY: render(policy)}


def left_out(policy: Policy) -> list[str]:
    """Return a line for each scope that notation refuses though the policy may allow it, and why."""
    lines = [f"scopes.{scope.written}: {why}" for scope in policy.scopes.values() if (why := _why_not(policy, scope))]
    if policy.revoked_certificates:
        lines.append("revoked.certificates: judged by the gate alone; take such an authority out of its root")
    return lines


def write(folder: Path, policy: Policy) -> int:
    """Put the files into a folder, all of them at once, in place of what an earlier time has written there.

    Returns:
        how many files there are.

    Raises:
        OSError: it cannot be written, or holds something else.
    """
    import shutil

    others = {each.name for each in folder.iterdir()} - {TRUST_POLICY, "truststore"} if folder.exists() else set()
    if others:
        raise FileExistsError(0, f"holds other things ({', '.join(sorted(others)[:3])})")
    found, made, old = files(policy), folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    for each in (made, old):
        shutil.rmtree(each, ignore_errors=True)
    for name, content in found.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_bytes(content)
    if folder.exists():
        folder.rename(old)
    made.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
    return len(found)


def _statement(name: str, scopes: list[str], root: Notation) -> dict[str, object]:
    return {
        "name": name,
        "registryScopes": scopes,
        "signatureVerification": {"level": "strict", "verifyTimestamp": "afterCertExpiry"},
        "trustStores": [f"{kind}:{name}" for kind in _stores(root)],
        "trustedIdentities": list(root.identities),
    }


def _stores(root: Notation) -> Mapping[str, tuple[str, ...]]:
    stores = {"ca": root.roots, "signingAuthority": root.signing_authorities, "tsa": root.timestamp_roots}
    return {kind: texts for kind, texts in stores.items() if texts}


def _notation(policy: Policy, name: str) -> Notation:
    found = policy.roots[name].certificates
    if not isinstance(found, Notation):
        raise TypeError(name)
    return found


def _roots(policy: Policy, scope: Scope) -> list[str]:
    """Return the roots of a scope that notation can be told of."""
    return [
        name
        for name in scope.rule.roots
        if isinstance(found := policy.roots[name].certificates, Notation) and all(map(in_spec, found.identities))
    ]


def _why_not(policy: Policy, scope: Scope) -> str:
    """Return why a scope is left out; empty if it is not."""
    return next(_reasons(policy, scope), "")


def _reasons(policy: Policy, scope: Scope) -> Iterator[str]:
    if scope.rule.kind == "reject":
        yield "rejected by having no statement"
    if scope.rule.kind == "accept":
        yield "there is nothing that notation could verify"
    if "/" not in scope.name:
        yield "a whole registry, and notation's scopes are repositories"
    roots = _roots(policy, scope)
    others = [name for name in scope.rule.roots if name not in roots]
    for name in others:
        if isinstance(policy.roots[name].certificates, Notation):
            yield f"notation takes no identity without ST, as {name} has one"
    if scope.rule.kind == "allOf" and others:
        yield f"notation cannot ask for {', '.join(others)} as well"
    if not roots:
        yield f"notation cannot read signatures of {', '.join(others)}"
    if len(roots) > 1:
        yield f"notation has one statement a repository, and cannot tell {' from '.join(roots)}"
