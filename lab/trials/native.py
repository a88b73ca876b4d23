"""The reason codes that the words of CRI-O and its engine stand for.

The engine's texts are those of go.podman.io/image; CRI-O's are of its server, NRI's of its default validator.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

GATE_GONE = (
    (r"plugin \S*countersign\S* (?:not present|failed)", "GATE_DOWN"),
    (
        r"countersign-hook\S*:? .*no such file|fork/exec .*countersign-hook|error executing hook .*countersign",
        "GATE_DOWN",
    ),
)
"""What either runtime says of a required plugin that is absent, hangs or lost its connection (NRI's words), and of a
hook that can't be executed (runc's)."""
PATTERNS = (
    (r"A signature was required, but no signature exists", "UNSIGNED"),
    (r"Signature for digest \S+ does not match", "OTHER_IMAGE"),
    (r"Signature for identity .* is not accepted", "OTHER_IMAGE"),
    (r"cryptographic signature verification failed", "BAD_SIGNATURE"),
    (r"is rejected by policy", "NO_SCOPE"),
    (r"user specified image not specified|cannot specify 64-byte hexadecimal strings", "BAD_REFERENCE"),
    (r"get default policy: invalid policy in", "POLICY_INVALID"),
    (r"Required email .* not found|Unexpected Fulcio OIDC issuer", "WRONG_IDENTITY"),
    (r"leaf certificate failed: x509: certificate has expired or is not yet valid", "EXPIRED"),
    (r"missing dev\.sigstore\.cosign/bundle annotation|verification of Rekor SET failed", "NO_TRUSTED_TIME"),
    (r"leaf certificate failed: ", "UNTRUSTED_CHAIN"),
    *GATE_GONE,
    (r"unauthorized|authentication required|access to the resource is denied", "REGISTRY_AUTH"),
    (r"connection refused|no such host|i/o timeout|deadline exceeded|signed by unknown authority", "REGISTRY_ERROR"),
)
"""Text → code, the first that matches. A scope that rejects and a name in no scope read the same to this engine
(``NO_SCOPE``), and so do a key that is not trusted and a payload that was altered (``BAD_SIGNATURE``)."""

MEANS: Mapping[str, frozenset[str]] = {
    "OK": frozenset({"OK", "ACCEPTED_BY_SCOPE", "PINNED_DIGEST"}),
    "UNSIGNED": frozenset({"UNSIGNED", "BAD_SIGNATURE", "TAMPERED", "OTHER_IMAGE"}),
    "BAD_SIGNATURE": frozenset({"BAD_SIGNATURE", "TAMPERED", "REVOKED"}),
    "NO_SCOPE": frozenset({"NO_SCOPE", "REJECTED_BY_SCOPE", "REVOKED"}),
}
"""A code of ``code_of`` → the gate's codes that it can stand for, where that is not the same code alone.

``OK``: what is allowed has no reason. ``UNSIGNED``: bundles, good or bad, are nothing to this engine, and neither are
signatures of the index. ``BAD_SIGNATURE``: a revoked key is one that is not trusted. ``NO_SCOPE``: a scope that
rejects, or whose keys are all revoked. A registry that could not be asked stands for no verdict of the gate.
"""


def agrees(code: str, expected: str) -> bool:
    """Say whether CRI-O's code for an image can stand for the gate's code for the same image."""
    return expected in MEANS.get(code, {code})


def code_of(message: str, patterns: Sequence[tuple[str, str]] = PATTERNS) -> str:
    """Return the reason code that an error of CRI-O or its library stands for, or an empty text.

    Of several signatures that all fail, the engine tells each in turn: the one that got furthest counts.
    Of another runtime, give the ``patterns`` that hold there: `GATE_GONE`.
    """
    for pattern, code in patterns:
        if re.search(pattern, message, re.DOTALL):
            return code
    return ""
