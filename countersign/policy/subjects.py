"""Whom a keyless root may trust: one name, or a glob that cannot mean everybody. The gate's rules, told earlier."""

from __future__ import annotations

import re

CLAIMS = ("ownerID", "ref", "repository", "repositoryID", "runnerEnvironment", "trigger")
"""Further claims of a certificate that a root may ask for; the gate has the same list."""
_MAX = 1024
_OWNER_RE = re.compile(r"[a-z][a-z0-9+.-]*://[^/*?#@]+/[^/*?#]+/")
_DOMAIN_RE = re.compile(r"[^@]*@[^@*/]*[^@*/.][^@*/]*\.[^@*/.]+")


def wrong(subject: str) -> str:
    """Return what is wrong with a subject; empty if nothing is."""
    uri = "://" in subject
    reasons = {
        "is empty": not subject,
        f"is longer than {_MAX} bytes": len(subject.encode()) > _MAX,
        "has a blank or control character": any(each <= " " or each == "\x7f" for each in subject),
        "has three '*' in a row": "***" in subject,
    }
    if "*" in subject:
        reasons |= {
            "has a wildcard in its host or in the first part of its path": uri and not _OWNER_RE.match(subject),
            "has a wildcard in its domain": not uri and "@" in subject and not _DOMAIN_RE.fullmatch(subject),
            "has a wildcard, and is neither a URI nor an e-mail address": not uri and "@" not in subject,
        }
    return next((why for why, so in reasons.items() if so), "")
