"""Referrers: what hangs on an image ("Listing Referrers" and "Referrers Tag Schema" of the distribution spec 1.1).

A registry without the referrers API keeps an index under the tag ``sha256-<hex>`` instead, which clients maintain.
There is no way to lock it, so ours is optimistic: read, add, write, read again, and repeat if the entry is gone.
"""

from __future__ import annotations

import random
import re
import time
from typing import TYPE_CHECKING, Any

from oci import descriptor
from oci import digest as digests
from oci.descriptor import MANIFEST_LIMIT, OCI_EMPTY, OCI_INDEX, Descriptor
from oci.errors import Malformed, NotFound, RegistryError

if TYPE_CHECKING:
    from oci.registry import Registry
    from oci.transport import Answer

_NO_API = (400, 405, 406, 501)  # beside 404: what registries answer that do not know the path
_MAX_PAGES = 16
_MAX_REFERRERS = 1000
_ATTEMPTS = 6
_NEXT_RE = re.compile(r'<([^>]*)>\s*;\s*rel="?next"?')


def listing(registry: Registry, name: str, digest: str) -> list[Descriptor]:
    """Return what refers to ``digest``.

    Entries that do not say what they are (cosign's fallback index says "empty") are read, and get the artifact type
    and annotations of their own manifest; entries whose manifest is gone are left out.

    Raises:
        Malformed: over 1000 entries or 16 pages, or unparsable.
    """
    found = _from_api(registry, name, digest)
    if found is None:
        found = _from_tag(registry, name, digest)
    if len(found) > _MAX_REFERRERS:
        raise Malformed(f"{len(found)} referrers", where=f"{name}@{digest}", expected=f"at most {_MAX_REFERRERS}")
    complete = (_completed(registry, name, entry) for entry in found)
    return [entry for entry in complete if entry is not None]


def add(registry: Registry, name: str, content: bytes) -> Descriptor:
    """Store a manifest with a subject, and see to it that ``listing`` finds it.

    Returns:
        its descriptor, with artifact type and annotations.

    Raises:
        Malformed: if the manifest has no subject.
        RegistryError: if others keep removing our entry from the fallback index.
    """
    manifest = descriptor.read_object(content, name)
    subject = descriptor.from_json(manifest.get("subject"), f"{name}: subject")
    entry = descriptor.of(
        content,
        descriptor.OCI_MANIFEST,
        artifact_type=descriptor.artifact_type(manifest),
        annotations=descriptor.read_annotations(manifest, name),
    )
    registry.put_manifest(name, entry.digest, content, entry.media_type)
    if _from_api(registry, name, subject.digest) is None:
        _add_to_tag(registry, name, subject.digest, entry)
    return entry


def _from_api(registry: Registry, name: str, digest: str) -> list[Descriptor] | None:
    """Ask the referrers API; None if the registry has none."""
    try:
        answer = registry.get(name, f"referrers/{digest}", MANIFEST_LIMIT, {"Accept": OCI_INDEX}, missing=_NO_API)
    except NotFound:
        return None
    if not _is_index(answer):
        return None
    found = _entries(answer.body, f"{name}@{digest}: referrers")
    for _ in range(_MAX_PAGES):
        following = _NEXT_RE.search(answer.headers.get("Link", ""))
        if following is None:
            return found
        answer = registry.get_next(name, answer, following[1], MANIFEST_LIMIT)
        found += _entries(answer.body, f"{name}@{digest}: referrers")
    raise Malformed(f"more than {_MAX_PAGES} pages of referrers", where=f"{name}@{digest}")


def _from_tag(registry: Registry, name: str, digest: str) -> list[Descriptor]:
    """Read the fallback index; none is an empty list."""
    tag = digests.tag(digest)
    found = registry.manifest_or_none(name, tag)
    return _entries(found[0], f"{name}:{tag}") if found else []


def _add_to_tag(registry: Registry, name: str, subject: str, entry: Descriptor) -> None:
    """Put an entry into the fallback index, keeping all others as they are."""
    tag = digests.tag(subject)
    for attempt in range(_ATTEMPTS):
        found = registry.manifest_or_none(name, tag)
        index: dict[str, Any] = (
            descriptor.read_object(found[0], f"{name}:{tag}")
            if found
            else {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}
        )
        present = descriptor.read_descriptors(index, "manifests", f"{name}:{tag}")
        if any(other.digest == entry.digest for other in present):
            return
        if attempt:
            time.sleep(random.uniform(0, 0.05 * attempt))  # noqa: S311  writers that collide must not march in step
        index["manifests"].append(entry.as_json())
        registry.put_manifest(name, tag, descriptor.encode(index), OCI_INDEX)
    raise RegistryError("other clients keep overwriting the index of referrers", where=f"{name}:{tag}", do="sign again")


def _completed(registry: Registry, name: str, entry: Descriptor) -> Descriptor | None:
    """Return the entry with its manifest's own artifact type; None if the manifest is gone."""
    if entry.artifact_type not in {"", OCI_EMPTY} or entry.is_index:
        return entry
    found = registry.manifest_or_none(name, entry.digest)
    if found is None:
        return None
    manifest = descriptor.read_object(found[0], f"{name}@{entry.digest}")
    return Descriptor(
        entry.media_type,
        entry.digest,
        entry.size,
        descriptor.artifact_type(manifest),
        descriptor.read_annotations(manifest, f"{name}@{entry.digest}"),
    )


def _is_index(answer: Answer) -> bool:
    return answer.headers.get("Content-Type", "").partition(";")[0].strip() == OCI_INDEX


def _entries(content: bytes, where: str) -> list[Descriptor]:
    return descriptor.read_descriptors(descriptor.read_object(content, where), "manifests", where)
