"""What registries list: the tags of a repository ("Listing Tags" of the distribution specification), and repositories.

Tags that stand for digests are not images; they say which digests something hangs on.
"""

from __future__ import annotations

import re

from countersign.oci import descriptor
from countersign.oci.descriptor import MANIFEST_LIMIT
from countersign.oci.errors import Malformed
from countersign.oci.registry import Registry

_MAX_PAGES = 256
_MAX_ENTRIES = 20_000
_NEXT_RE = re.compile(r'<([^>]*)>\s*;\s*rel="?next"?')
_TAG_RE = re.compile(r"[\w][\w.-]{0,127}", re.ASCII)
_OF_DIGEST_RE = re.compile(r"sha256-([0-9a-f]{64})(?:\..*)?")
_REPOSITORY_RE = re.compile(r"[a-z0-9]+(?:[._/-]+[a-z0-9]+)*", re.ASCII)
_LONGEST = 255  # characters of a repository's path


def tags(registry: Registry, name: str) -> list[str]:
    """Return the tags of images in a repository, in the registry's order.

    Raises:
        NotFound: there is no such repository.
        Malformed: the list cannot be read, or has over 20,000 tags.
    """
    return tags_and_digests(registry, name)[0]


def tags_and_digests(registry: Registry, name: str) -> tuple[list[str], list[str]]:
    """Return the tags of images in a repository, and the digests that its other tags stand for.

    Something hangs on such a digest, or did: it is found although no image's tag leads there.

    Raises:
        NotFound: there is no such repository.
        Malformed: the list cannot be read, or has over 20,000 tags.
    """
    found = _listed(registry, name, "tags/list", "tags", _TAG_RE)
    named = {tag: _OF_DIGEST_RE.fullmatch(tag) for tag in found}
    digests = dict.fromkeys(f"sha256:{match[1]}" for match in named.values() if match)
    return [tag for tag in found if not named[tag]], list(digests)


def repositories(registry: Registry, host: str) -> list[str]:
    """Return the repositories in a registry's catalog, with the registry's name.

    The catalog is not a part of the specification: several registries have none, or show each user their own.

    Raises:
        NotFound: there is no catalog.
        Malformed: the list cannot be read, or has over 20,000 repositories.
    """
    found = _listed(registry, host, "_catalog", "repositories", _REPOSITORY_RE)
    return [f"{host}/{one}" for one in found if len(one) <= _LONGEST]


def _listed(registry: Registry, name: str, tail: str, member: str, form: re.Pattern[str]) -> list[str]:
    """Return the entries of a list, page by page."""
    where = f"{name}: {member}"
    answer = registry.get(name, tail, MANIFEST_LIMIT)
    found: list[str] = []
    for _ in range(_MAX_PAGES):
        listed = descriptor.read_object(answer.body, where).get(member) or []
        if not isinstance(listed, list) or not all(isinstance(one, str) and form.fullmatch(one) for one in listed):
            raise Malformed(f"no list of {member}", where=where)
        found += listed
        following = _NEXT_RE.search(answer.headers.get("Link", ""))
        if following is None:
            return list(dict.fromkeys(found))
        if len(found) > _MAX_ENTRIES:
            break
        answer = registry.get_next(name, answer, following[1], MANIFEST_LIMIT)
    raise Malformed(f"too many {member}", where=where, expected=f"at most {_MAX_ENTRIES}")
