"""Digests: ``sha256:<hex>``, of the OCI image specification's "Digests" section.

The other algorithms that it registers are refused: no signature format here and no runtime uses one for images.
"""

from __future__ import annotations

import hashlib
import re
from typing import BinaryIO

_CHUNK = 1 << 20  # bytes
_DIGEST_RE = re.compile(r"sha256:[0-9a-f]{64}")


def of(content: bytes) -> str:
    """Return the sha256 digest of ``content``."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def of_file(file: BinaryIO) -> str:
    """Return the sha256 digest of a file's content, from its start."""
    file.seek(0)
    found = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        found.update(chunk)
    return "sha256:" + found.hexdigest()


def valid(text: str) -> bool:
    """Say whether ``text`` is a sha256 digest."""
    return _DIGEST_RE.fullmatch(text) is not None


def matches(digest: str, content: bytes) -> bool:
    """Say whether ``digest`` is that of ``content``."""
    return of(content) == digest


def tag(digest: str, suffix: str = "") -> str:
    """Return the tag that stands for ``digest``: ``sha256-<hex>`` and a suffix.

    Without suffix it is the "Referrers Tag Schema" of the OCI distribution specification; with ".sig", where
    cosign puts attachments.
    """
    return digest.replace(":", "-") + suffix
