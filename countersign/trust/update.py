"""Put a newer trusted root in the place of the one that a policy names."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from countersign.console import whole
from countersign.console.errors import UsageError, VerdictError
from countersign.policy import document
from countersign.trust import listing
from countersign.trust.listing import Difference, Entry

FORMER = ".former"


def files_of(policy: Path) -> list[Path]:
    """Return the trusted roots that a policy names, each once; they need not be there yet.

    Raises:
        PolicyInvalid: it cannot be read.
    """
    value = document.read(policy).value
    return list(dict.fromkeys((policy.parent / name).absolute() for name in _named(value)))


def _named(policy: Any) -> Iterator[str]:
    roots = policy.get("roots") if isinstance(policy, Mapping) else None
    for root in roots.values() if isinstance(roots, Mapping) else ():
        keyless = root.get("keyless") if isinstance(root, Mapping) else None
        names = keyless.get("trustedRoot") if isinstance(keyless, Mapping) else None
        yield from (name for name in ([names] if isinstance(names, str) else names or ()) if isinstance(name, str))


def check(content: bytes, where: str, there: bytes | None, now: dt.datetime) -> tuple[tuple[Entry, ...], Difference]:
    """Return what a new trusted root lists, and how it differs from the one that is there.

    Args:
        there: the one that is there, or None.

    Raises:
        UsageError: one of them cannot be read.
        VerdictError: no authority in the new one counts now, or it is older.
    """
    entries = listing.read(content, where)
    if not any(each.kind == "authority" and each.counts(now) for each in entries):
        raise VerdictError("no certificate authority in it is valid now", where=where, do="nothing was changed")
    if there is None:
        return entries, listing.difference((), entries)
    before = listing.read(there, "the one that is there")
    if why := listing.older(before, entries):
        raise VerdictError(f"is older than the one that is there: {why}", where=where, do="nothing was changed")
    return entries, listing.difference(before, entries)


def soon(entries: tuple[Entry, ...], now: dt.datetime, days: int = 30) -> list[str]:
    """Return what counts now and not for so many days more."""
    ends = [(each, min((one for one in (each.end, each.expires) if one), default=None)) for each in entries]
    return [
        f"{each.kind} {each.url} ends {end:%Y-%m-%d}"
        for each, end in ends
        if each.counts(now) and end and end < now + dt.timedelta(days=days)
    ]


def present(path: Path) -> bytes | None:
    """Return a file's content, or None if there is none.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(listing.LIMIT + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(str(error.strerror), where=str(path), expected="a trusted_root.json") from error


def write(path: Path, content: bytes) -> Path | None:
    """Put a trusted root in place, whole or not at all; return where the former one is kept, if there was one."""
    place = path.resolve()  # a link goes on leading there
    place.parent.mkdir(parents=True, exist_ok=True)
    former = place.with_name(place.name + FORMER) if place.exists() else None
    if former:
        whole.write(former, place.read_bytes())
    whole.write(place, content)
    return former
