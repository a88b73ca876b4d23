"""Whether what a release says to be in a transparency log is there: the log itself is asked, where it can be reached.

That an entry was made is proven offline, by what the log signed, which the gate verifies. What this adds is that the
log still shows it to everybody. Rekor v1 is asked by an entry's hash, which is its UUID; Rekor v2 knows no search, and
gives the tile of an index (C2SP tlog-tiles).
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from countersign.oci.hosts import is_loopback

if TYPE_CHECKING:
    from countersign.oci.proxy import Proxies

_TILE = 256  # entries
_LIMIT = _TILE * (2 + (1 << 16))  # bytes of a tile, whose entries have at most 65,535 each
_SECONDS = 10
_GONE = 404
_AT_ONCE = 4
_TILED = "0.0.2"
"""The version of entries in Rekor v2."""


class NotThere(Exception):
    """The log was asked, and does not have it."""


class NotAsked(Exception):
    """The log cannot be asked, or does not answer as a log does."""


@dataclass(frozen=True)
class Entry:
    """One entry, as a bundle has it.

    Attributes:
        what: the bundle.
        log: where the log is, by the trusted root.
        index: in the log.
        tiled: it is in a Rekor v2.
        body: what was logged.
    """

    what: str
    log: str
    index: int
    tiled: bool
    body: bytes


@dataclass(frozen=True)
class Looked:
    """What came of it.

    Attributes:
        there: the bundles whose entries the log shows.
        missing: bundle → what the log says instead.
        why_not: why some were not looked for; empty where all were.
    """

    there: tuple[str, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)
    why_not: str = ""


def entries(bundles: Iterable[tuple[str, bytes]], trusted_root: bytes) -> Iterator[Entry]:
    """Yield the entries of bundles that hold, in logs that the trusted root lists."""
    logs = {each["logId"]["keyId"]: str(each["baseUrl"]) for each in json.loads(trusted_root).get("tlogs", ())}
    for what, content in bundles:
        for each in json.loads(content)["verificationMaterial"].get("tlogEntries") or ():
            if log := logs.get(each["logId"]["keyId"]):
                body = base64.b64decode(each["canonicalizedBody"])
                tiled = each["kindVersion"]["version"] == _TILED
                yield Entry(what, log.rstrip("/"), int(each["logIndex"]), tiled, body)


def look(wanted: Iterable[Entry], proxies: Proxies) -> Looked:
    """Ask the logs for entries; one that cannot be asked is not asked again."""
    deaf: dict[str, str] = {}

    def one(entry: Entry) -> tuple[str, str]:
        if entry.log in deaf:
            return "unasked", ""
        try:
            (_in_tiles if entry.tiled else _by_hash)(entry, proxies)
        except NotThere as err:
            return "missing", str(err)
        except NotAsked as err:
            deaf[entry.log] = str(err)
            return "unasked", ""
        return "there", ""

    listed = list(wanted)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        came = list(zip(listed, pool.map(one, listed), strict=True))
    return Looked(
        tuple(entry.what for entry, (outcome, _) in came if outcome == "there"),
        {entry.what: f"{entry.log}: {said}" for entry, (outcome, said) in came if outcome == "missing"},
        "; ".join(f"{log}: {why}" for log, why in sorted(deaf.items())),
    )


def _by_hash(entry: Entry, proxies: Proxies) -> None:
    """Ask a Rekor v1 for an entry ("getLogEntryByUUID")."""
    name = hashlib.sha256(b"\x00" + entry.body).hexdigest()  # of a leaf (RFC 6962, 2.1)
    content = _get(f"{entry.log}/api/v1/log/entries/{name}", proxies)
    if content is None:
        raise NotThere(f"it has no entry {name}")
    try:
        found = [base64.b64decode(each["body"]) for each in json.loads(content).values()]
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise NotAsked("answers with no entry of Rekor v1") from err
    if entry.body not in found:
        raise NotThere(f"its entry {name} is another one")


def _in_tiles(entry: Entry, proxies: Proxies) -> None:
    """Ask a Rekor v2 for the tile with an entry."""
    note = (_get(f"{entry.log}/api/v2/checkpoint", proxies) or b"").split(b"\n")
    if len(note) < 3 or not note[1].isdigit():  # noqa: PLR2004
        raise NotAsked("has no checkpoint")
    size, tile = int(note[1]), entry.index // _TILE
    if entry.index >= size:
        raise NotThere(f"it has {size} entries, and no index {entry.index}")
    partial = f".p/{size % _TILE}" if (tile + 1) * _TILE > size else ""
    content = _get(f"{entry.log}/api/v2/tile/entries/{_path(tile)}{partial}", proxies)
    if content is None:
        raise NotAsked(f"has no tile {tile}")
    if list(_split(content))[entry.index % _TILE : entry.index % _TILE + 1] != [entry.body]:
        raise NotThere(f"its entry {entry.index} is another one")


def _path(tile: int) -> str:
    """Return a tile's number as a path: ``x001/x234/067``."""
    digits = str(tile)
    padded = digits.zfill(-(-len(digits) // 3) * 3)
    parts = [padded[start : start + 3] for start in range(0, len(padded), 3)]
    return "/".join([*(f"x{each}" for each in parts[:-1]), parts[-1]])


def _split(content: bytes) -> Iterator[bytes]:
    """Yield the entries of a tile, each after its length."""
    at = 0
    while at + 2 <= len(content):
        end = at + 2 + int.from_bytes(content[at : at + 2], "big")
        yield content[at + 2 : end]
        at = end


def _get(url: str, proxies: Proxies) -> bytes | None:
    """Return what a log answers with; None for what it does not have.

    Raises:
        NotAsked: it cannot be reached, or fails.
    """
    import urllib3
    from urllib3.exceptions import HTTPError

    from countersign.oci.proxy import connections

    split = urlsplit(url)
    if split.scheme != "https" and not is_loopback(split.netloc):
        raise NotAsked("is no https:// URL")
    pool = connections(None, proxies.of(url))
    try:
        answer = pool.request(
            "GET", url, redirect=False, retries=False, preload_content=False,
            timeout=urllib3.Timeout(connect=_SECONDS, read=_SECONDS), headers={"User-Agent": "countersign-release"},
        )  # fmt: skip
        content = answer.read(_LIMIT + 1)
    except HTTPError as err:
        raise NotAsked(f"cannot be reached ({type(err).__name__})") from err
    finally:
        pool.clear()
    if answer.status == _GONE:
        return None
    if answer.status != 200 or len(content) > _LIMIT:  # noqa: PLR2004
        raise NotAsked(f"answers {answer.status}")
    return content
