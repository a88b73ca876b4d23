"""Referrers: what hangs on an image ("Listing Referrers" and "Referrers Tag Schema" of the distribution spec 1.1).

A registry without the referrers API keeps an index under the tag ``sha256-<hex>`` instead, which clients maintain; so
does one whose API does not show what was pushed. What is listed is what both have together.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from countersign.oci import descriptor, tagged
from countersign.oci import digest as digests
from countersign.oci.descriptor import MANIFEST_LIMIT, OCI_EMPTY, OCI_INDEX, Descriptor
from countersign.oci.errors import Malformed, NotFound, RegistryError
from countersign.oci.registry import Registry
from countersign.oci.tagged import Found

if TYPE_CHECKING:
    from countersign.oci.messages import Answer

_NO_API = (400, 405, 406, 501)  # beside 404: what registries answer that do not know the path
_MAX_PAGES = 256
_MAX_REFERRERS = 20_000
_MAX_COMPLETED = 1000  # entries that do not say what they are
_LOOKS = 4  # at an API that says it has taken an entry
_NEXT_RE = re.compile(r'<([^>]*)>\s*;\s*rel="?next"?')


def listing(registry: Registry, name: str, digest: str) -> list[Descriptor]:
    """Return what refers to ``digest``: what the API lists, then what the tag lists beside it.

    Entries that do not say what they are (cosign's fallback index says "empty") are read, and get the artifact type
    and annotations of their own manifest; entries whose manifest is gone are left out. An API that fails counts for
    nothing if the tag lists something: a registry without the API may answer anything there.

    Raises:
        RegistryError: if the API fails and the tag lists nothing.
        Malformed: over 20000 entries, 256 pages or 1000 entries to be read, or unparsable.
    """
    failure: RegistryError | None = None
    found: dict[str, Descriptor] = {}
    try:
        found = {entry.digest: entry for entry in _from_api(registry, name, digest) or ()}
    except RegistryError as err:
        failure = err
    for entry in _from_tag(registry, name, digest):
        found.setdefault(entry.digest, entry)
    if failure and not found:
        raise failure
    if len(found) > _MAX_REFERRERS:
        raise Malformed(f"{len(found)} referrers", where=f"{name}@{digest}", expected=f"at most {_MAX_REFERRERS}")
    if (unsaid := sum(map(_is_unsaid, found.values()))) > _MAX_COMPLETED:
        raise Malformed(
            f"{unsaid} referrers of no type", where=f"{name}@{digest}", expected=f"at most {_MAX_COMPLETED}"
        )
    complete = (_completed(registry, name, entry) for entry in found.values())
    return [entry for entry in complete if entry is not None]


def add(registry: Registry, name: str, content: bytes) -> Descriptor:
    """Store a manifest with a subject, and see to it that ``listing`` finds it.

    Returns:
        its descriptor, with artifact type and annotations.

    Raises:
        Malformed: if the manifest has no subject.
        RegistryError: if neither the API nor the tag shows it in the end.
    """
    manifest = descriptor.read_object(content, name)
    subject = descriptor.from_json(manifest.get("subject"), f"{name}: subject")
    entry = descriptor.of(
        content,
        descriptor.OCI_MANIFEST,
        artifact_type=descriptor.artifact_type(manifest),
        annotations=descriptor.read_annotations(manifest, name),
    )
    if name in registry.without_referrers:  # nothing is pushed that nothing could lead to
        tag = digests.tag(subject.digest)
        _check_tag(registry.manifest_or_none(name, tag), name, tag, subject.digest)
    answer = registry.send_manifest(name, entry.digest, content, entry.media_type)
    if not _is_shown(registry, name, subject.digest, entry, told=answer.headers.get("OCI-Subject") == subject.digest):
        _add_to_tag(registry, name, subject.digest, [entry])
        if registry.manifest_or_none(name, entry.digest) is None:
            where = f"{name}@{entry.digest}"
            raise RegistryError("the registry took a referrer, and does not have it", where=where, do="ask who runs it")
    return entry


def show(registry: Registry, name: str, digest: str, entries: Sequence[Descriptor]) -> None:
    """See to it that ``listing`` finds referrers of ``digest`` that are stored already.

    What the API does not show goes into the fallback index, all at once.

    Raises:
        RegistryError: if the tag cannot be had to show them either.
    """
    shown: set[str] = set()
    for attempt in range(_LOOKS):
        if name in registry.without_referrers:
            break
        time.sleep(0.1 * attempt)
        try:
            shown = {one.digest for one in _from_api(registry, name, digest) or ()}
        except RegistryError:  # as in ``_is_shown``
            break
        if all(entry.digest in shown for entry in entries):
            return
    _add_to_tag(registry, name, digest, [entry for entry in entries if entry.digest not in shown])


def _is_shown(registry: Registry, name: str, digest: str, entry: Descriptor, *, told: bool) -> bool:
    """Say whether the API lists an entry; one that has told that it will gets some time for it.

    An API that fails shows nothing: the tag is written then, and what is wrong with that is told.
    """
    if name in registry.without_referrers:
        return False
    for attempt in range(_LOOKS if told else 1):
        time.sleep(0.1 * attempt)
        try:
            if any(one.digest == entry.digest for one in _from_api(registry, name, digest) or ()):
                return True
        except RegistryError:
            return False
    return False


def _from_api(registry: Registry, name: str, digest: str) -> list[Descriptor] | None:
    """Ask the referrers API; None if the registry has none."""
    try:
        answer = registry.get(name, f"referrers/{digest}", MANIFEST_LIMIT, {"Accept": OCI_INDEX}, missing=_NO_API)
    except NotFound:
        answer = None
    if answer is None or not _is_index(answer):
        registry.without_referrers.add(name)
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
    """Read the fallback index; none is an empty list, and so is the image itself (see ``_check_tag``)."""
    tag = digests.tag(digest)
    found = registry.manifest_or_none(name, tag)
    return _entries(found[0], f"{name}:{tag}") if found and found[1].digest != digest else []


def _check_tag(found: Found, name: str, tag: str, subject: str) -> None:
    """Raise if a registry answers the tag ``sha256-<hex>`` with the image of that digest: it cannot list anything."""
    if found and found[1].digest == subject:
        raise RegistryError(
            f"the registry takes the tag {tag} for the digest, and has no referrers API: nothing can hang on an image",
            where=f"{name}@{subject}",
            do="signatures as attachments serve there",
        )


def _add_to_tag(registry: Registry, name: str, subject: str, entries: Sequence[Descriptor]) -> None:
    """Put entries into the fallback index, keeping all others as they are."""
    tag = digests.tag(subject)
    where = f"{name}:{tag}"

    def wanted(found: Found) -> tuple[bytes, str] | None:
        _check_tag(found, name, tag, subject)
        new = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}
        index: dict[str, Any] = descriptor.read_object(found[0], where) if found else new
        there = {other.digest for other in descriptor.read_descriptors(index, "manifests", where)}
        lacking = [entry for entry in entries if entry.digest not in there]
        if not lacking:
            return None
        index["manifests"] += [entry.as_json() for entry in lacking]
        return descriptor.encode(index), OCI_INDEX

    tagged.change(registry, name, tag, wanted)


def _is_unsaid(entry: Descriptor) -> bool:
    """Say whether an entry does not tell what it is."""
    return entry.artifact_type in {"", OCI_EMPTY} and not entry.is_index


def _completed(registry: Registry, name: str, entry: Descriptor) -> Descriptor | None:
    """Return the entry with its manifest's own artifact type; None if the manifest is gone."""
    if not _is_unsaid(entry):
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
    return answer.headers.get("Content-Type", "").partition(";")[0].strip().lower() == OCI_INDEX


def _entries(content: bytes, where: str) -> list[Descriptor]:
    return descriptor.read_descriptors(descriptor.read_object(content, where), "manifests", where)
