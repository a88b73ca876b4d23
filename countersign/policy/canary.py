"""The scope that every rendered policy reserves for the canary of ``countersign-gate prove``.

It asks for a signature that nobody can make: so the canary is refused as an unsigned image of a scope like any other,
with binding, evidence and policy done. See docs/adr/0019.
"""

from __future__ import annotations

REGISTRY = "127.67.83.71:871"
"""The reserved scope: where the gate serves the canary, on loopback; ``Registry`` of gate/internal/prove."""
REPOSITORY = f"{REGISTRY}/countersign/canary"
ROOT = "countersign-canary"
"""The reserved root of trust."""
SEED = "countersign canary 0"
KEY = """\
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEPjPW7Jtj7o4Jdfr871//TCnwB4T+
gI3frLaOTo7ETG/NJZzQPnPwPrBql5OdEyPzcIH4qCMWePK54jCMoCf+jA==
-----END PUBLIC KEY-----
"""
"""A point of P-256 whose x is the SHA-256 of `SEED` (and whose y is even): nobody has its private key."""


def reserved(name: str) -> bool:
    """Return whether a scope or repository, in normal form, lies in the reserved scope."""
    return name == REGISTRY or name.startswith(f"{REGISTRY}/")
