"""The signature formats that are written here."""

from __future__ import annotations

from typing import Literal

Format = Literal["attachment", "bundle", "notation"]
FORMATS: tuple[Format, ...] = ("attachment", "bundle")
"""What is written unless another is asked for: a key is all that they need."""
KNOWN: tuple[Format, ...] = (*FORMATS, "notation")
