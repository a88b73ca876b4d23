"""Signing images: by digest only, in both formats, beside what is there; a second time adds nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from countersign.keys.pair import PrivateKey
from countersign.oci import descriptor
from countersign.oci.descriptor import Descriptor
from countersign.oci.errors import Malformed, NotFound, RegistryError, Tampered
from countersign.oci.reference import Reference
from countersign.oci.registry import Registry
from signing import attachment, bundle, notary, notation, stored
from signing.notary import Notary
from signing.signer import ByKey, Signer
from signing.stored import FORMATS, Format, Found

_MAX_DEPTH = 4  # indexes in indexes
_MAX_TARGETS = 256


@dataclass(frozen=True)
class Signed:
    """What was done for one digest.

    Attributes:
        added: the formats in which a signature was added.
        present: the formats in which exactly what would be written was there already.
        failed: why a format could not be written; one that fails does not void the other.
    """

    target: Descriptor
    added: list[Format] = field(default_factory=list)
    present: list[Format] = field(default_factory=list)
    failed: dict[Format, RegistryError] = field(default_factory=dict)


def targets(registry: Registry, ref: Reference, *, recursive: bool = True) -> list[Descriptor]:
    """Return what is to be signed for an image: what it resolves to, and every platform manifest in it.

    Args:
        ref: the image; a tag is resolved now.
        recursive: also what an index names (CRI-O wants the platform manifest itself signed).

    Raises:
        NotFound: if there is no such image.
        Malformed: if its index cannot be read or is too large.
    """
    content, root = registry.manifest(ref.name, ref.digest or ref.tag or "")
    found = [root]
    if recursive:
        _collect(registry, ref.name, content, root, found, 1)
    return found


def sign(
    registry: Registry,
    name: str,
    target: Descriptor,
    by: PrivateKey | Signer | None,
    formats: Sequence[Format] = FORMATS,
    envelope: bytes | None = None,
) -> Signed:
    """Sign one digest.

    Args:
        registry: where the image lies and the signatures go.
        by: who signs; a key for itself, without a certificate. None where the only format is notation.
        envelope: what ``prepare`` has made for the format notation; None where that is there already.

    Raises:
        RegistryError: if nothing could be stored, in no format.
    """
    signer = ByKey(by) if isinstance(by, PrivateKey) else by
    result = Signed(target)
    for chosen in formats:
        try:
            written = envelope if chosen == "notation" else signer
            if written is None or (
                not isinstance(written, bytes) and there(registry, name, target.digest, written, chosen)
            ):
                result.present.append(chosen)
                continue
            _add(registry, name, target, written, chosen)
        except RegistryError as err:
            result.failed[chosen] = err
        else:
            result.added.append(chosen)
    if result.failed and not (result.added or result.present):
        raise next(iter(result.failed.values()))
    return result


def there(registry: Registry, name: str, digest: str, signer: Signer, chosen: Format) -> bool:
    """Say whether exactly what ``sign`` would write is there already, and holds under this very signer's key.

    Anything else that hangs there, good or not, is for the gate to judge; one's own signature goes beside it. What
    cannot be listed or read is not what would be written. Nothing that has a new certificate or time is ever there.
    """
    if not signer.lasting:
        return False
    wanted = attachment.payload(name, digest) if chosen == "attachment" else bundle.statement(digest)
    try:
        found = stored.listed(registry, name, digest, chosen)
        return any(wrote(registry, name, signer, one, wanted) for one in found)
    except RegistryError:
        return False


def wrote(
    registry: Registry, name: str, signer: Signer, found: Found, wanted: bytes, limit: int = bundle.BUNDLE_LIMIT
) -> bool:
    """Say whether something that hangs there is what a signer would write; what cannot be read is not."""
    try:
        return signer.wrote(found, stored.content(registry, name, found, limit), wanted)
    except (Malformed, Tampered, NotFound):
        return False


def prepare(registry: Registry, name: str, target: Descriptor, signer: Notary) -> bytes | None:
    """Have a signature in the format notation made, and nothing pushed; None if what would be written is there.

    Raises:
        CountersignError: the signer fails.
    """
    expected = signer.expected(target)
    if expected and _enveloped(registry, name, target, expected):
        return None
    made = signer.make(target)
    found = notary.checked(made, target, signer.about)
    return None if not expected and _enveloped(registry, name, target, found) else made


def _enveloped(registry: Registry, name: str, target: Descriptor, expected: notation.Envelope) -> bool:
    try:
        listed = stored.listed(registry, name, target.digest, "notation")
    except RegistryError:
        return False
    return any(_is_written(registry, name, one, expected) for one in listed)


def _is_written(registry: Registry, name: str, found: Found, expected: notation.Envelope) -> bool:
    try:
        return notary.there(stored.content(registry, name, found), expected)
    except (RegistryError, NotFound):
        return False


def _add(registry: Registry, name: str, target: Descriptor, signer: Signer | bytes, chosen: Format) -> None:
    if isinstance(signer, bytes):
        stored.add_envelope(registry, name, target, signer)
    elif chosen == "attachment":
        claim = attachment.payload(name, target.digest)
        stored.add_attachment(registry, name, target.digest, signer.attachment(claim))
    else:
        stated = bundle.statement(target.digest, named=signer.names_subjects)
        stored.add_bundle(registry, name, target, signer.statement(stated))


def _collect(
    registry: Registry, name: str, content: bytes, what: Descriptor, found: list[Descriptor], depth: int
) -> None:
    """Append to ``found`` what an index names, and what the indexes in it name."""
    for child in _children(content, what, f"{name}@{what.digest}"):
        if any(child.digest == other.digest for other in found):
            continue
        found.append(child)
        if depth > _MAX_DEPTH or len(found) > _MAX_TARGETS:
            raise Malformed("an index too deep or too large", where=f"{name}@{what.digest}")
        if child.is_index:
            _collect(registry, name, registry.manifest(name, child.digest)[0], child, found, depth + 1)


def _children(content: bytes, what: Descriptor, where: str) -> list[Descriptor]:
    """Return the images and indexes that an index names; a manifest names none.

    Left out are BuildKit's attestations (platform "unknown"): they never run, and to sign them as images would
    claim that they may.
    """
    if not what.is_index:
        return []
    listed = descriptor.read_descriptors(descriptor.read_object(content, where), "manifests", where)
    kinds = descriptor.INDEX_TYPES | descriptor.MANIFEST_TYPES
    return [entry for entry in listed if entry.media_type in kinds and entry.platform.get("os") != "unknown"]
