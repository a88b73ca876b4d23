"""The policy as the program uses it: checked, normalised, keys read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from countersign.keys.pair import PublicKey

RuleKind = Literal["anyOf", "allOf", "accept", "reject"]


@dataclass(frozen=True)
class Rule:
    """What a scope asks for; ``roots`` is empty for accept and reject."""

    kind: RuleKind
    roots: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return "anyOf: a, b" or "reject"."""
        return f"{self.kind}: {', '.join(self.roots)}" if self.roots else self.kind


DEFAULT = Rule("reject")
"""What holds where no scope matches; no policy can change it."""


@dataclass(frozen=True)
class Root:
    """A root of trust: a signature by any of the keys is good."""

    name: str
    keys: tuple[PublicKey, ...]


@dataclass(frozen=True)
class Scope:
    """A scope in normal form, as it was written, its rule, and its line in the file."""

    name: str
    written: str
    rule: Rule
    line: int


@dataclass(frozen=True)
class Policy:
    """A whole policy.

    Attributes:
        path: the file.
        roots: by name.
        scopes: by normal form.
        pinned: "registry/path@sha256:…", normalised.
        revoked_keys: fingerprints.
        revoked_digests: digests of images.
    """

    path: Path
    roots: Mapping[str, Root]
    scopes: Mapping[str, Scope]
    pinned: tuple[str, ...] = ()
    revoked_keys: tuple[str, ...] = ()
    revoked_digests: tuple[str, ...] = ()
