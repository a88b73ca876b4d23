"""The gate's policy: ``Policy`` → one self-contained JSON document, keys inline.

Canonical (sorted keys, two spaces, a newline at the end), so that equal policies are equal bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from countersign.console.errors import UsageError
from countersign.oci import reference
from countersign.policy import canary
from countersign.policy.model import Attestation, Keyless, Notation, Pki, Policy, Root, Rule, duration

VERSION = "countersign.policy/v1"


def render(policy: Policy, extra_pins: Iterable[str] = (), serial: int = 0) -> bytes:
    """Return the gate's policy.

    Args:
        extra_pins: "repository@sha256:…" beside those of the policy (the pause image that set-up built).
        serial: what a node's gate lets only grow; 0 for none.

    Raises:
        UsageError: if an extra pin has no digest.
    """
    document = {
        **({"serial": serial} if serial else {}),
        "version": VERSION,
        "roots": {
            **{name: _root(root) for name, root in policy.roots.items()},
            canary.ROOT: {"publicKey": {"keys": [canary.KEY]}},
        },
        "scopes": {
            **{name: _rule(scope.rule) for name, scope in policy.scopes.items()},
            canary.REGISTRY: {"anyOf": [canary.ROOT]},
        },
        "pinned": sorted({*policy.pinned, *(_pin(pin) for pin in extra_pins)}),
        "revoked": _revoked(policy),
    }
    return (json.dumps(document, sort_keys=True, indent=2) + "\n").encode()


def _root(root: Root) -> dict[str, Any]:
    match root.certificates:
        case Keyless() as keyless:
            optional = {"claims": dict(keyless.claims), "require": dict(keyless.require)}
            given = {name: value for name, value in optional.items() if value}
            identity = {"issuer": keyless.issuer, "subject": keyless.subject}
            return {"keyless": {**identity, "trustedRoot": list(keyless.trusted_roots), **given}}
        case Pki() as pki:
            lists = {
                "roots": pki.roots,
                "intermediates": pki.intermediates,
                "timestampRoots": pki.timestamp_roots,
                "crls": pki.crls,
            }
            return {"pki": {pki.kind: pki.name, **{name: list(texts) for name, texts in lists.items() if texts}}}
        case Notation() as notation:
            lists = {
                "roots": notation.roots,
                "signingAuthorities": notation.signing_authorities,
                "identities": notation.identities,
                "timestampRoots": notation.timestamp_roots,
                "crls": notation.crls,
            }
            return {"notation": {name: list(texts) for name, texts in lists.items() if texts}}
    since = {fingerprint: day.isoformat() for fingerprint, day in root.since.items()}
    return {"publicKey": {"keys": [key.pem for key in root.keys], **({"since": since} if since else {})}}


def _revoked(policy: Policy) -> dict[str, Any]:
    """Return what is revoked; what a list names stands in the list alone, whose very bytes the gate verifies."""
    lists = [
        {"keys": list(each.signers), "document": each.text, "signatures": list(each.signatures)}
        for each in sorted(policy.lists, key=lambda each: each.name)
    ]
    return {
        "keys": sorted({*policy.revoked_keys}.difference(*(each.keys for each in policy.lists))),
        "certificates": _certificates(
            {*policy.revoked_certificates}.difference(*(e.certificates for e in policy.lists))
        ),
        "digests": sorted({*policy.revoked_digests}.difference(*(each.digests for each in policy.lists))),
        **({"lists": lists} if lists else {}),
    }


def _certificates(revoked: Iterable[str | tuple[str, str]]) -> list[Any]:
    fingerprints = sorted(each for each in revoked if isinstance(each, str))
    issued = sorted(each for each in revoked if isinstance(each, tuple))
    return [*fingerprints, *({"issuer": issuer, "serial": serial} for issuer, serial in issued)]


def _rule(rule: Rule) -> dict[str, Any]:
    if not rule.roots:
        return {rule.kind: True}
    beside = {
        "formats": list(rule.formats),
        "signature": rule.signature,
        "attestations": [_attestation(each) for each in rule.attestations],
    }
    return {rule.kind: list(rule.roots), **{name: value for name, value in beside.items() if value}}


def _attestation(asked: Attestation) -> dict[str, Any]:
    optional = {"where": asked.where, "maxAge": duration(asked.max_age) if asked.max_age else ""}
    return {"type": asked.type, "by": list(asked.by), **{name: value for name, value in optional.items() if value}}


def _pin(text: str) -> str:
    ref = reference.parse(text)
    if ref.digest is None:
        raise UsageError(f"the pin {text!r} has no digest", expected=f"{ref.name}@sha256:<hex>")
    return str(ref)
