"""The one sentence by which a refusal is known, wherever it arrives: in a runtime's error, or in the API server's."""

from __future__ import annotations

import re

_SENTENCE = re.compile(r"countersign: (?:refused [^\n]*?: )?([A-Z][A-Z_]+):(?: |$)")
"""``countersign: refused REF@DIGEST: CODE: …`` of the gate; ``countersign: CODE: …`` of the policies for admission."""


def code_of(message: str) -> str:
    """Return the reason code that a sentence of ours carries in an error, or an empty text."""
    found = _SENTENCE.search(message)
    return found[1] if found else ""
