"""Content under a tag that several writers share.

Nothing in the distribution specification locks a tag, so writing is optimistic: read, change, write, read again, and
repeat if something is missing then.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from countersign.oci.descriptor import Descriptor
from countersign.oci.errors import RegistryError
from countersign.oci.registry import Registry

_ATTEMPTS = 6

Found = tuple[bytes, Descriptor] | None


def change(registry: Registry, name: str, tag: str, wanted: Callable[[Found], tuple[bytes, str] | None]) -> None:
    """Write under a tag until nothing is missing in what is read back.

    Args:
        wanted: takes what is there, and returns the content and media type to write, or None if nothing is missing.

    Raises:
        RegistryError: if something is still missing in the end, or the registry fails.
    """
    before, found = None, registry.manifest_or_none(name, tag)
    for attempt in range(_ATTEMPTS):
        new = wanted(found)
        if new is None:
            return
        if attempt:
            time.sleep(random.uniform(0, 0.05 * attempt))  # noqa: S311  writers that collide must not march in step
        registry.put_manifest(name, tag, *new)
        before, found = found, registry.manifest_or_none(name, tag)
    if wanted(found) is not None:
        raise _not_kept(before, found, f"{name}:{tag}")


def _not_kept(before: Found, found: Found, where: str) -> RegistryError:
    """Return what is known of why the last write is not there."""
    took = "the registry took what was written, and "
    if found is None:
        return RegistryError(took + "does not have it", where=where, do="ask who runs it")
    if before and before[1].digest == found[1].digest:
        do = "allow the tag to be overwritten there, and sign again when nobody else does"
        return RegistryError(took + "has what was there before", where=where, do=do)
    return RegistryError("other clients keep overwriting it", where=where, do="sign again")
