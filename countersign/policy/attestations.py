"""What a scope asks for beside signatures, as a person wrote it: what is wrong with its types and durations."""

from __future__ import annotations

import re

from countersign.policy.model import duration

SIGN = "https://sigstore.dev/cosign/sign/v1"
"""The predicate type of signatures."""
SHORT = {
    "slsaprovenance": "https://slsa.dev/provenance/v0.2",
    "slsaprovenance02": "https://slsa.dev/provenance/v0.2",
    "slsaprovenance1": "https://slsa.dev/provenance/v1",
    "cyclonedx": "https://cyclonedx.org/bom",
    "spdx": "https://spdx.dev/Document",
    "spdxjson": "https://spdx.dev/Document",
    "vuln": "https://cosign.sigstore.dev/attestation/vuln/v1",
    "openvex": "https://openvex.dev/ns",
    "custom": "https://cosign.sigstore.dev/attestation/v1",
}
"""What cosign calls predicate types on its command line."""
_MAX_TYPE = 512
_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_DURATION = re.compile(r"(?:\d{1,10}[dhms])+")
_MAX_SECONDS = 100 * 366 * 86400


def wrong_type(text: str) -> str:
    """Return what is wrong with a predicate type, and what is expected; empty if nothing is."""
    if text == SIGN:
        return "it is the type of signatures; expected that of an attestation"
    if text in SHORT:
        return f"expected the predicate type in full: {SHORT[text]}"
    if not re.search(r"[:/]", text) or re.search(r"[\s\x00-\x20\x7f]", text) or len(text.encode()) > _MAX_TYPE:
        return "expected a predicate type in full, such as https://slsa.dev/provenance/v1"
    return ""


def seconds(text: str) -> int:
    """Return a duration such as ``720h``, ``30d`` or ``1h30m`` in seconds.

    Raises:
        ValueError: it is none, or too long; the text says what is expected.
    """
    found = sum(int(n) * _UNITS[unit] for n, unit in re.findall(r"(\d+)([dhms])", text))
    if not _DURATION.fullmatch(text) or not 0 < found <= _MAX_SECONDS:
        raise ValueError(f"expected a duration above zero, such as 720h or 30d, and at most {duration(_MAX_SECONDS)}")
    return found
