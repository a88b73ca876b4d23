"""The tags of a repository ("Listing Tags" of the distribution specification), but for those that stand for digests."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from countersign.oci import descriptor
from countersign.oci.descriptor import MANIFEST_LIMIT
from countersign.oci.errors import Malformed

if TYPE_CHECKING:
    from countersign.oci.registry import Registry

_MAX_PAGES = 256
_MAX_TAGS = 20_000
_NEXT_RE = re.compile(r'<([^>]*)>\s*;\s*rel="?next"?')
_TAG_RE = re.compile(r"[\w][\w.-]{0,127}", re.ASCII)
_OF_DIGEST_RE = re.compile(r"sha256-[0-9a-f]{64}(\..*)?")


def tags(registry: Registry, name: str) -> list[str]:
    """Return the tags of images in a repository, in the registry's order.

    Raises:
        NotFound: there is no such repository.
        Malformed: the list cannot be read, or has over 20,000 tags.
    """
    where = f"{name}: tags"
    answer = registry.get(name, "tags/list", MANIFEST_LIMIT)
    found: list[str] = []
    for _ in range(_MAX_PAGES):
        listed = descriptor.read_object(answer.body, where).get("tags") or []
        if not isinstance(listed, list) or not all(isinstance(one, str) and _TAG_RE.fullmatch(one) for one in listed):
            raise Malformed("no list of tags", where=where)
        found += [one for one in listed if not _OF_DIGEST_RE.fullmatch(one)]
        following = _NEXT_RE.search(answer.headers.get("Link", ""))
        if following is None:
            return list(dict.fromkeys(found))
        if len(found) > _MAX_TAGS:
            break
        answer = registry.get_next(name, answer, following[1], MANIFEST_LIMIT)
    raise Malformed("too many tags", where=where, expected=f"at most {_MAX_TAGS}")
