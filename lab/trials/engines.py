"""CRI-O's own engine beside the gate: the same images, and the reviewed list of what it may say otherwise."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.trials.document import verdict as in_words
from lab.trials.rows import OK, Found, Layer, Outcome, Row

if TYPE_CHECKING:
    from lab.trials.differences import Differences, Engine
    from lab.trials.model import Case

OWN, LIBRARY = "own", "library"
"""CRI-O's own engine in a CRI-O that runs, and the same engine as a library."""

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
(``NO_SCOPE``), and so do a key that is not trusted and a payload that was altered (``BAD_SIGNATURE``). The engine's
texts are those of go.podman.io/image; CRI-O's are of its server, NRI's of its default validator."""

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


@dataclass(frozen=True)
class EngineRow(Row):
    """An image that an engine judges at pull; ``code`` is the gate's.

    Attributes:
        engine: ``own`` or ``library``.
    """

    engine: str
    image: str
    code: str
    way: str = "pull"
    layer: Layer = "pull"

    @property
    def id(self) -> str:
        """Its name on the command line."""
        return f"{self.engine}/{self.image}"


def rows(engine: str, cases: Iterable[Case]) -> list[EngineRow]:
    """Return each image of the matrix once, with the gate's code for it as it is pulled."""
    return [EngineRow(engine, image, code) for image, code in expected(cases).items()]


def expected(cases: Iterable[Case]) -> dict[str, str]:
    """Return image → the code that the gate gives it as it is pulled, in the matrix's order."""
    codes: dict[str, str] = {}
    for case in cases:
        if case.way == "pull":
            codes.setdefault(case.image, case.code)
    return codes


def judge(row: EngineRow, found: Found, known: Differences, engine: Engine = "crio") -> Outcome:
    """Compare: the engine must allow and refuse as the gate does, CRI-O's for a reason that can stand for the gate's.

    Otherwise ``differences.yaml`` has the image; an entry of it that is contradicted is wrong, too. What is refused at
    admission is told in other words than the gate's.
    """
    says = f"says {in_words(found.allow, found.code)}"
    entry = known.excuse(row.image, engine, allow=found.allow)
    if found.allow != row.allow:
        if entry:
            return Outcome(row, found, excused=f"{entry.decides} decides: {entry.reason}")
        return Outcome(row, found, (f"{says}, and differences.yaml has no such entry",))
    if known.excuse(row.image, engine, allow=not found.allow):
        return Outcome(row, found, (f"{says}, which differences.yaml denies",))
    if engine == "crio" and not agrees(found.code, row.code):
        return Outcome(row, found, (f"{says}, which cannot stand for {row.code}",))
    return Outcome(row, found)


def verdict(message: str | None) -> Found | None:
    """Return what an engine's error stands for, None being none; None for an error that is not a verdict."""
    if message is None:
        return Found(True, "pull", OK)
    code = code_of(message)
    return Found(False, "pull", code, message) if code else None


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
