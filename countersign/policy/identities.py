"""Whom a Notation root trusts: subjects of certificates (RFC 4514), as the gate reads them.

The Notary Project's specification wants C, ST and O in each (trust-store-trust-policy.md, "Trusted identities"). Many
countries have no ST, so the gate asks for C and O; where ST is missing the notation CLI cannot be told (`in_spec`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

PREFIX = "x509.subject:"
TYPES = ("C", "CN", "L", "O", "OU", "POSTALCODE", "SERIALNUMBER", "ST", "STREET")
"""Attributes that an identity may name; "S" is another name of "ST"."""
_MAX = 1024  # bytes
_PAIR_RE = re.compile(r"""\s*([A-Za-z0-9.]+)\s*=\s*((?:[^\\,+;"<>\x00-\x1f\x7f]|\\[,+;"<>\\=# ])*?)\s*(,|$)""")


def wrong(identity: str) -> str:
    """Return what is wrong with an identity; empty if nothing is."""
    pairs = _pairs(identity) or []
    names = [name for name, _ in pairs]
    unknown = next((name for name in names if name not in TYPES), "")
    empty = any(not value or value.startswith("#") for _, value in pairs)
    reasons = {
        f"does not start with {PREFIX}": not identity.startswith(PREFIX),
        f"is longer than {_MAX} bytes": len(identity.encode()) > _MAX,
        "has a wildcard; a subject is named, or attributes are left out": "*" in identity,
        "is not a subject of attributes with commas between them": not pairs,
        f"names {unknown}, and not one of {', '.join(TYPES)}": bool(unknown),
        "has a duplicate attribute, or one without a value": empty or len(set(names)) < len(names),
        "names no C or no O, so it could be anybody": not {"C", "O"} <= set(names),
    }
    return next((why for why, so in reasons.items() if so), "")


def attributes(identity: str) -> Mapping[str, str]:
    """Return the attributes that an identity names; none for what is not an identity."""
    return dict(_pairs(identity) or ())


def in_spec(identity: str) -> bool:
    """Return whether the Notary Project's own verifiers take the identity."""
    return "ST" in attributes(identity)


def overlap(one: str, other: str) -> bool:
    """Return whether whoever meets one of two identities meets the other."""
    first, second = attributes(one).items(), attributes(other).items()
    return first <= second or second <= first


def _pairs(identity: str) -> list[tuple[str, str]] | None:
    """Return name and value of each attribute; None for a text that is not a subject."""
    text, found = identity.removeprefix(PREFIX), []
    while True:
        match = _PAIR_RE.match(text)
        if match is None:
            return None
        name, value, comma = match.groups()
        found.append(("ST" if name == "S" else name, value))
        text = text[match.end() :]
        if not comma:
            return found
