"""Roots by certificate for Kyverno's ``verifyImages``, whose entries bring all that they trust: nothing is fetched.

What an entry judges is as strict as the gate; the rest is named (`beside`), or the root is the gate's (`why_not`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from countersign.policy import sigstore_root
from countersign.policy.certificates import listed
from countersign.policy.model import Keyless, Notation, Pki, Root

NOWHERE = "https://rekor.invalid"
"""Asked where a signature brings no entry of a log: no such host can exist (RFC 6761), so that is refused."""


@dataclass(frozen=True)
class Entry:
    """Who may have signed: a key, or whoever has a certificate.

    Attributes:
        key: PEM; empty for a certificate.
        roots: authorities, PEM.
        subject, issuer: regular expressions; no issuer for an authority of one's own.
        rekor, ctlog: keys of logs, PEM; empty where none is asked for.
    """

    key: str = ""
    roots: str = ""
    subject: str = ""
    issuer: str = ""
    rekor: str = ""
    ctlog: str = ""


def why_not(root: Root) -> str:
    """Return why ``verifyImages`` cannot judge a root; empty if it can."""
    match root.certificates:
        case Notation():
            return "notation: Kyverno compares no subjects"
        case Keyless() as keyless:
            if not _wanted(keyless, "log"):
                return "keyless: Kyverno's verifyImages wants a log entry"
            return "" if list(entries(root)) else "keyless: no trusted root lists authority and Rekor v1 without an end"
    return ""


def beside(root: Root) -> Iterator[str]:
    """Yield what of a root that is rendered is the gate's all the same."""
    match root.certificates:
        case Pki(crls=crls) if crls:
            yield f"the crls of {root.name}"
        case Keyless() as keyless:
            if keyless.claims:
                yield f"the claims of {root.name}"
            if max(_wanted(keyless, kind) for kind in ("sct", "log", "time")) > 1:
                yield f"more than one sct, log entry or time of {root.name}"


def entries(root: Root) -> Iterator[Entry]:
    """Yield the entries of a root by certificate, of which any one is enough."""
    match root.certificates:
        case Pki(name=name, roots=roots):
            yield Entry(roots="".join(roots), subject=pattern(name, literal=True))
        case Keyless() as keyless:
            for trusted in keyless.trusted_roots:
                authorities = sigstore_root.authorities(trusted)
                scts = sigstore_root.log_keys(trusted, "ctlogs") if _wanted(keyless, "sct") else [""]
                if not authorities:
                    continue
                for rekor, ctlog in product(sigstore_root.log_keys(trusted), scts):
                    subject, issuer = pattern(keyless.subject), pattern(keyless.issuer, literal=True)
                    yield Entry("", authorities, subject, issuer, rekor, ctlog)


def pattern(text: str, *, literal: bool = False) -> str:
    """Return a name or glob of the policy as a regular expression of Go that is anchored at both ends."""
    parts = [text] if literal else re.split(r"(\*\*|\*)", text)
    any_text = {} if literal else {"**": ".*", "*": "[^/]*"}
    return f"^(?:{''.join(any_text.get(part) or re.escape(part) for part in parts)})$"


def _wanted(root: Keyless, kind: str) -> int:
    most = max(listed(trusted)[kind] for trusted in root.trusted_roots)
    return root.require.get(kind, 1 if kind == "time" else min(1, most))
