"""The signature formats that are written here."""

from __future__ import annotations

from typing import Literal

Format = Literal["attachment", "bundle"]
FORMATS: tuple[Format, ...] = ("attachment", "bundle")
