"""Which engines can read what hangs on an image, and what to add so that the rest can: by facts of ``engines.yaml``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from countersign.console.output import Branch

FACTS = Path(__file__).with_suffix(".yaml")
KINDS = ("key", "keyless-email", "keyless-uri", "pki", "notation")
_SHORT = 12  # characters of an ID

Formats = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Engine:
    """What is known of an engine; see the head of ``engines.yaml``."""

    name: str
    versions: str
    reads: Formats
    attests: Formats
    sources: Sequence[str]
    silent: Sequence[str] = ()
    add: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Reading:
    """What an engine can read of what hangs on an image.

    Attributes:
        reads, unknown, not_read: signatures and attestations, shortly named.
        add: what makes a signature that it reads; empty where it reads one, or it is not known.
    """

    engine: Engine
    reads: Sequence[str]
    unknown: Sequence[str]
    not_read: Sequence[str]
    add: str


@cache
def engines() -> tuple[Engine, ...]:
    """Return all engines of which facts are kept."""
    import yaml

    return tuple(Engine(**each) for each in yaml.safe_load(FACTS.read_text(encoding="utf-8")))


def kind(one: Mapping[str, Any]) -> str:
    """Return by whom a signature says to be, as one of `KINDS`; one without a certificate is by a key."""
    signer = one["signer"]
    if one["format"] == "notation":
        return "notation"
    if names := signer.get("names"):
        if not signer.get("issuer"):
            return "pki"
        return "keyless-uri" if any("://" in name for name in names) else "keyless-email"
    return "key"


def explain(found: Mapping[str, Any]) -> list[Reading]:
    """Return for each engine what it can read of an inspected image (``countersign.inspected/v1``)."""
    hanging = [one for each in found["digests"] for one in each["signatures"] if not one.get("problem")]
    return [_reading(engine, hanging) for engine in engines()]


def _reading(engine: Engine, hanging: Sequence[Mapping[str, Any]]) -> Reading:
    said: dict[str, dict[str, None]] = {"reads": {}, "unknown": {}, "not": {}}
    signed = False
    for one in hanging:
        formats = engine.attests if one["attestation"] else engine.reads
        state = "reads" if kind(one) in formats.get(one["format"], ()) else "not"
        state = "unknown" if one["format"] in engine.silent else state
        said[state][_named(one)] = None
        signed |= state != "not" and not one["attestation"]
    add = "" if signed else "; or ".join(engine.add.values())
    return Reading(engine, [*said["reads"]], [*said["unknown"]], [*said["not"]], add)


def _named(one: Mapping[str, Any]) -> str:
    what = "attestation" if one["attestation"] else "signature"
    return f"{one['format']} {one['id'][:_SHORT]} ({what} by {kind(one)})"


def drawn(readings: Sequence[Reading]) -> list[Branch]:
    """Return what engines can read as lines of a tree."""
    return [(_title(each), [(line, ()) for line in _lines(each)]) for each in readings]


def _title(reading: Reading) -> str:
    mark = "✓" if reading.reads else "?" if reading.unknown else "✗"
    return f"{mark} {reading.engine.name} ({reading.engine.versions})"


def _lines(reading: Reading) -> Iterator[str]:
    for word, names in (("reads", reading.reads), ("not known", reading.unknown), ("not read", reading.not_read)):
        if names:
            yield f"{word}: {', '.join(names)}"
    if reading.add:
        yield f"add {reading.add}"
    if reading.engine.note:
        yield f"note: {reading.engine.note}"
    yield f"by {', '.join(reading.engine.sources)}"


def as_json(readings: Sequence[Reading]) -> list[dict[str, Any]]:
    """Return the same as JSON."""
    return [
        {
            "engine": each.engine.name,
            "versions": each.engine.versions,
            "reads": [*each.reads],
            "unknown": [*each.unknown],
            "notRead": [*each.not_read],
            "add": each.add,
            "note": each.engine.note,
            "sources": [*each.engine.sources],
        }
        for each in readings
    ]
