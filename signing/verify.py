"""Verifying an image's signatures under public keys, with the gate's reason codes.

This is the signer's own check: of the digest that a reference resolves to, under keys that are given. What a policy
says of an image is the gate's to tell (``countersign-gate verify``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from oci.errors import Malformed, NotFound, Tampered
from oci.reference import Reference
from oci.registry import Registry
from signing import attachment, bundle, stored
from signing.attachment import Attachment
from signing.formats import FORMATS, Format
from signing.keys import PublicKey
from signing.stored import Found
from signing.verdicts import NotSigned, furthest


@dataclass(frozen=True)
class Check:
    """What came of one signature: the key it holds under, or why it does not hold."""

    format: Format
    key: PublicKey | None = None
    failure: NotSigned | None = None


def check(registry: Registry, name: str, digest: str, keys: Sequence[PublicKey], chosen: Format) -> list[Check]:
    """Check all signatures of one format on one digest; none is an empty list.

    A signature that cannot be read is one that does not hold: it must not hide a good one.
    """
    try:
        found = stored.listed(registry, name, digest, chosen)
    except Malformed as err:
        return [Check(chosen, failure=_unreadable(err))]
    return [_check_one(registry, name, digest, keys, one) for one in found]


def verify(registry: Registry, ref: Reference, keys: Sequence[PublicKey]) -> tuple[str, list[Check]]:
    """Verify an image: one signature that holds under any of the keys is enough, in any format.

    Returns:
        the digest that the reference resolved to, and what came of each signature.

    Raises:
        NotFound: if there is no such image.
        NotSigned: if no signature holds, with the code of the one that got furthest.
    """
    digest = registry.resolve(ref).digest
    checks = [one for chosen in FORMATS for one in check(registry, ref.name, digest, keys, chosen)]
    if any(one.key for one in checks):
        return digest, checks
    where = str(ref.at(digest))
    failures = [one.failure for one in checks if one.failure]
    if not failures:
        raise NotSigned("UNSIGNED", "no attachment and no bundle", where=where, do="sign it: signing.sign")
    worst = furthest(failures)
    details = [f"{one.format}: {one.failure}" for one in checks]
    raise NotSigned(worst.code, worst.found, where=where, expected=worst.expected, do=worst.do, details=details)


def _check_one(registry: Registry, name: str, digest: str, keys: Sequence[PublicKey], found: Found) -> Check:
    try:
        content = stored.content(registry, name, found)
        if found.format == "attachment":
            one = Attachment(content, found.signature)
            return Check(found.format, attachment.verify(one, keys, name, digest))
        return Check(found.format, bundle.verify(content, keys, digest))
    except NotSigned as failure:
        return Check(found.format, failure=failure)
    except (Malformed, Tampered, NotFound) as err:
        return Check(found.format, failure=_unreadable(err))


def _unreadable(err: Malformed | Tampered | NotFound) -> NotSigned:
    return NotSigned("TAMPERED" if isinstance(err, Tampered) else "MALFORMED", str(err))
