"""The sentence of a refusal is found wherever it arrives, and nothing else is taken for one."""

from __future__ import annotations

import pytest

from countersign.enforcement.refusal import code_of

SAID = "countersign: refused r.example:5000/app:v1@sha256:0: UNSIGNED: found no signature"


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (SAID, "UNSIGNED"),
        (f"image verifier bindir blocked pull: {SAID}", "UNSIGNED"),
        (f"hook failed: exit status 1\nstdout: , stderr: {SAID}\n: unknown", "UNSIGNED"),
        ("countersign: refused container c1: GATE_DOWN: nobody answers", "GATE_DOWN"),
        ("Policy countersign failed: countersign: NO_SCOPE: no scope has it", "NO_SCOPE"),
        ("countersign: refused r.example/app: UNSIGNED: X: TIMEOUT: y", "UNSIGNED"),
        ("countersign: refused r.example/app\nUNSIGNED: on another line", ""),
        ("countersign: no signature that team asks for, of r.example/app", ""),
        ("refused r.example/app: UNSIGNED: by somebody else", ""),
        ("", ""),
    ],
)
def test_the_code_is_that_of_the_first_sentence_of_ours(message: str, code: str) -> None:
    assert code_of(message) == code
