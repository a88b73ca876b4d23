"""What a trusted root lists, and how a newer one differs."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from countersign.console.errors import UsageError

TRUSTED_ROOT = "application/vnd.dev.sigstore.trustedroot+json;version=0.1"
LIMIT = 1 << 20
"""Bytes of a trusted root; the public one has 7,000."""
_KINDS = {
    "tlogs": "log",
    "certificateAuthorities": "authority",
    "ctlogs": "log of certificates",
    "timestampAuthorities": "timestamp authority",
}


@dataclass(frozen=True)
class Entry:
    """A log or an authority.

    Attributes:
        kind: ``log``, ``authority``, ``log of certificates`` or ``timestamp authority``.
        url: what it calls itself; no part of its identity.
        fingerprint: ``sha256:<hex>`` of its key, or of its certificates one after the other.
        start: since when what it has signed counts.
        end: until when; None while nobody knows.
        expires: when the first of its certificates ends; None for a log, which has a key alone.
    """

    kind: str
    url: str
    fingerprint: str
    start: dt.datetime
    end: dt.datetime | None
    expires: dt.datetime | None

    def __str__(self) -> str:
        """Return it for people."""
        return f"{self.kind} {self.url} ({self.fingerprint[:23]}…), {self.validity}"

    @property
    def validity(self) -> str:
        """From when to when."""
        return f"since {self.start:%Y-%m-%d}" + (f" until {self.end:%Y-%m-%d}" if self.end else "")

    def counts(self, now: dt.datetime) -> bool:
        """Return whether what it signs now counts."""
        ends = [each for each in (self.end, self.expires) if each]
        return self.start <= now and all(now <= each for each in ends)

    def as_json(self) -> dict[str, str | None]:
        """Return it as JSON."""
        return {
            "kind": self.kind,
            "url": self.url,
            "fingerprint": self.fingerprint,
            "start": self.start.isoformat(),
            "end": self.end.isoformat() if self.end else None,
        }


@dataclass(frozen=True)
class Difference:
    """How a trusted root differs from the one before.

    Attributes:
        added: entries that the one before lacks.
        removed: entries that only that one has.
        changed: pairs of one entry, before and now, with other times.
    """

    added: tuple[Entry, ...]
    removed: tuple[Entry, ...]
    changed: tuple[tuple[Entry, Entry], ...]

    def __bool__(self) -> bool:
        """Return whether there is any."""
        return bool(self.added or self.removed or self.changed)


def read(content: bytes, where: str) -> tuple[Entry, ...]:
    """Return what a trusted root lists (protobuf-specs, ``sigstore_trustroot.proto``).

    Raises:
        UsageError: it is something else, too large, or cannot be read as a whole.
    """
    if len(content) > LIMIT:
        raise UsageError(f"more than {LIMIT} bytes", where=where, expected="a trusted_root.json")
    try:
        root = json.loads(content)
        if root["mediaType"] != TRUSTED_ROOT:
            raise UsageError(f"got type {root['mediaType']!r}", where=where, expected=TRUSTED_ROOT)
        entries = tuple(_entries(root))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, binascii.Error) as error:
        what = "not JSON" if isinstance(error, json.JSONDecodeError) else f"{type(error).__name__}: {error}"[:200]
        raise UsageError(f"cannot be read: {what}", where=where, expected="a trusted_root.json") from error
    if not any(each.kind == "authority" for each in entries):
        raise UsageError("it lists no certificate authority", where=where, expected="at least one")
    return entries


def _entries(root: Mapping[str, Any]) -> Iterator[Entry]:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    for member, kind in _KINDS.items():
        for each in root.get(member) or ():
            if "publicKey" in each:
                url, valid = each["baseUrl"], each["publicKey"]["validFor"]
                der = base64.b64decode(each["publicKey"]["rawBytes"], validate=True)
                load_der_public_key(der) if each["publicKey"].get("keyDetails") != "PKCS1_RSA_PKCS1V5" else None
                expires = None
            else:
                url, valid = each["uri"], each["validFor"]
                raw = [base64.b64decode(one["rawBytes"], validate=True) for one in each["certChain"]["certificates"]]
                expires = min(x509.load_der_x509_certificate(one).not_valid_after_utc for one in raw)
                der = b"".join(raw)
            end = _time(valid["end"]) if valid.get("end") else None
            yield Entry(kind, url, f"sha256:{hashlib.sha256(der).hexdigest()}", _time(valid["start"]), end, expires)


def difference(before: tuple[Entry, ...], now: tuple[Entry, ...]) -> Difference:
    """Return how one trusted root differs from the one before it."""
    was, there = ({(each.kind, each.fingerprint): each for each in root} for root in (before, now))
    return Difference(
        tuple(each for key, each in there.items() if key not in was),
        tuple(each for key, each in was.items() if key not in there),
        tuple(
            (was[key], each)
            for key, each in there.items()
            if key in was and (was[key].start, was[key].end) != (each.start, each.end)
        ),
    )


def older(before: tuple[Entry, ...], now: tuple[Entry, ...]) -> str:
    """Return why a trusted root is older than the one that is there; empty if nothing says so.

    It has no number: what shows is that it does not know the newest entry, or that one had ended that goes on.
    """
    newest, found = (max(each.start for each in root) for root in (before, now))
    if found < newest:
        return f"its newest entry begins {found:%Y-%m-%d}, that of the one that is there {newest:%Y-%m-%d}"
    for was, each in difference(before, now).changed:
        if was.end and (each.end is None or each.end > was.end):
            return f"{was.kind} {was.url} had ended {was.end:%Y-%m-%d}, and goes on in it"
    return ""


def _time(text: str) -> dt.datetime:
    found = dt.datetime.fromisoformat(text.replace("Z", "+00:00"))
    if found.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return found
