"""A new key beside an old one: what the old one signed is found, and signed again.

The gate's engine says what the old key signed, and what the new one: no signature is verified here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from countersign.oci.reference import Reference
from countersign.oci.registry import Registry
from signing import sign
from signing.signer import Signer
from signing.stored import FORMATS

State = Literal["signed again", "had both", "to be signed", "not the old key's", "left"]
DONE: frozenset[State] = frozenset({"signed again", "had both", "not the old key's"})


@dataclass(frozen=True)
class Turned:
    """One image.

    Attributes:
        image: its name by digest.
        digests: of the image and its platforms.
    """

    image: str
    state: State
    digests: tuple[str, ...] = ()


Holds = Callable[[str, Literal["old", "new"]], bool]
"""Says whether an image, by digest, is signed by the old or the new key."""


def turn(registry: Registry, ref: Reference, signer: Signer, holds: Holds, *, plan: bool) -> Turned:
    """Sign an image again if the old key has signed it: whatever the new one has not signed yet, platforms too.

    Args:
        ref: the image; a tag is resolved once, and all is done by digest.

    Raises:
        CountersignError: the image cannot be read, or its signature not written.
    """
    found = sign.targets(registry, ref)
    image, digests = str(ref.at(found[0].digest)), tuple(one.digest for one in found)
    if not holds(image, "old"):
        return Turned(image, "not the old key's", digests)
    if plan:
        there = (sign.there(registry, ref.name, one.digest, signer, chosen) for one in found for chosen in FORMATS)
        return Turned(image, "had both" if all(there) else "to be signed", digests)
    signed = [sign.sign(registry, ref.name, target, signer) for target in found]
    if not holds(image, "new") or any(one.failed for one in signed):
        return Turned(image, "left", digests)
    return Turned(image, "signed again" if any(one.added for one in signed) else "had both", digests)
