"""Roots by certificate and CRI-O's own engine: ``fulcio`` and ``pki`` of containers-policy.json(5), in words.

What go.podman.io/image judges as strictly as the gate is rendered (gate/internal/containerspolicy); what it judges in
part is rendered too, and the rest named (`beside`); what it would judge more laxly, or cannot say, is the gate's
(`why_not`).
"""

from __future__ import annotations

from collections.abc import Iterator

from countersign.policy import sigstore_root
from countersign.policy.certificates import listed
from countersign.policy.model import Keyless, Pki, Root


def why_not(root: Root) -> str:
    """Return why the engine cannot judge a root; empty if it can."""
    match root.certificates:
        case None:
            return ""
        case Pki(kind=kind):
            return {
                "email": "",
                "dns": "pki: CRI-O's own engine takes wildcards in certificates for a DNS name",
                "uri": "pki: CRI-O's own engine knows no URIs",
            }[kind]
        case Keyless() as keyless:
            return _why_not_fulcio(keyless)
    return "notation: CRI-O's own engine reads no such signatures"


def _why_not_fulcio(root: Keyless) -> str:
    (first, *more) = root.trusted_roots
    reasons = {
        "keyless: CRI-O's own engine knows e-mail addresses only": "://" in root.subject or "@" not in root.subject,
        "keyless: CRI-O's own engine knows no wildcards": "*" in root.subject,
        "keyless: CRI-O's own engine cannot keep several trusted roots apart": bool(more),
        "keyless: CRI-O's own engine wants a log entry": not _wanted(root, "log"),
        "keyless: its trusted root lists no authority without an end": not sigstore_root.authorities(first),
        "keyless: its trusted root lists no Rekor v1 without an end": not sigstore_root.log_keys(first),
    }
    return next((why for why, so in reasons.items() if so), "")


def _wanted(root: Keyless, kind: str) -> int:
    return root.require.get(kind, min(1, listed(root.trusted_roots[0])[kind]))


def beside(root: Root) -> Iterator[str]:
    """Yield what of a root that the engine judges is the gate's all the same."""
    match root.certificates:
        case Pki(crls=crls) if crls:
            yield f"the crls of {root.name}"
        case Keyless() as keyless:
            if keyless.claims:
                yield f"the claims of {root.name}"
            if _wanted(keyless, "sct"):
                yield f"the certificate timestamps (sct) of {root.name}"
            if _wanted(keyless, "log") > 1 or _wanted(keyless, "time") > 1:
                yield f"more than one log entry or time of {root.name}"
