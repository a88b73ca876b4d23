"""The reason codes that the words of CRI-O and its engine stand for.

The engine's texts are those of go.podman.io/image; CRI-O's are of its server, NRI's of its default validator.
"""

from __future__ import annotations

import re

PATTERNS = (
    (r"A signature was required, but no signature exists", "UNSIGNED"),
    (r"Signature for digest \S+ does not match", "OTHER_IMAGE"),
    (r"Signature for identity .* is not accepted", "OTHER_IMAGE"),
    (r"cryptographic signature verification failed", "BAD_SIGNATURE"),
    (r"is rejected by policy", "NO_SCOPE"),
    (r"Required email .* not found", "WRONG_IDENTITY"),
    (r"plugin \S*countersign\S* (?:not present|failed)", "GATE_DOWN"),
    (
        r"countersign-hook\S*:? .*no such file|fork/exec .*countersign-hook|error executing hook .*countersign",
        "GATE_DOWN",
    ),
    (r"unauthorized|authentication required|access to the resource is denied", "REGISTRY_AUTH"),
    (r"(?:connection refused|no such host|i/o timeout|deadline exceeded)", "REGISTRY_ERROR"),
)
"""Text → code, the first that matches. A scope that rejects and a name in no scope read the same to this engine
(``NO_SCOPE``), and so do a key that is not trusted and a payload that was altered (``BAD_SIGNATURE``)."""


def code_of(message: str) -> str:
    """Return the reason code that an error of CRI-O or its library stands for, or an empty text.

    Of several signatures that all fail, the engine tells each in turn: the one that got furthest counts.
    """
    for pattern, code in PATTERNS:
        if re.search(pattern, message, re.DOTALL):
            return code
    return ""
