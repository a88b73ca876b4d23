"""Digests: ``algorithm:hex``, as the OCI image specification's "Digests" section has them."""

from __future__ import annotations

import hashlib
import hmac
import re

_HEX_LENGTH = {"sha256": 64, "sha384": 96, "sha512": 128}
_HEX_RE = re.compile(r"[0-9a-f]+")


def of(content: bytes) -> str:
    """Return the sha256 digest of ``content``."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def valid(text: str) -> bool:
    """Say whether ``text`` is a digest of an algorithm that is known here."""
    algorithm, _, encoded = text.partition(":")
    return len(encoded) == _HEX_LENGTH.get(algorithm) and _HEX_RE.fullmatch(encoded) is not None


def matches(digest: str, content: bytes) -> bool:
    """Say whether ``digest``, which must be valid, is that of ``content``."""
    algorithm, _, encoded = digest.partition(":")
    return hmac.compare_digest(hashlib.new(algorithm, content).hexdigest(), encoded)


def tag(digest: str, suffix: str = "") -> str:
    """Return the tag that stands for ``digest``: ``sha256-<hex>`` and a suffix.

    Without suffix it is the "Referrers Tag Schema" of the OCI distribution specification; with ".sig", where
    cosign puts attachments.
    """
    algorithm, _, encoded = digest.partition(":")
    return f"{algorithm[:32]}-{encoded[:64]}{suffix}"
