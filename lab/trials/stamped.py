"""How each image of the matrix comes to be whose scope knows timestamps and lists of revoked certificates."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from lab.trials import certified
from lab.trials.signers import PAST, THEN, person
from signing import attachment as simple
from signing import bundle as bundles
from signing import stored

if TYPE_CHECKING:
    from lab.trials.authority import Signer
    from lab.trials.images import Image
    from lab.trials.timestamps import Stamper

_NOW = dt.timedelta(0)


def stamped_right(image: Image) -> None:
    """By a certificate that has ended, with a timestamp of when it was valid."""
    _past(image, image.authorities.stamper, THEN)


def stamped_good_and_bad(image: Image) -> None:
    """The same without a timestamp first, then with it."""
    _past(image, None)
    _past(image, image.authorities.stamper, THEN)


def stamped_missing(image: Image) -> None:
    """The same without a timestamp."""
    _past(image, None)


def stamped_too_late(image: Image) -> None:
    """The same with a timestamp of now."""
    _past(image, image.authorities.stamper, _NOW)


def stamped_by_another(image: Image) -> None:
    """The same with the timestamp of an authority that nobody trusts."""
    _past(image, image.authorities.other_stamper, THEN)


def stamped_by_an_expired_one(image: Image) -> None:
    """The same with the timestamp of an authority whose certificate had ended by then; its scope trusts it."""
    _past(image, image.authorities.old_stamper, THEN)


def stamped_other_signature(image: Image) -> None:
    """The same with the timestamp of another signature."""
    _past(image, image.authorities.stamper, THEN, of=b"another")


def stamped_altered(image: Image) -> None:
    """The same with a timestamp whose last byte is another."""
    _past(image, image.authorities.stamper, THEN, alter=True)


def stamped_unlisted(image: Image) -> None:
    """By a certificate that is valid."""
    _sign(image, person(image.authorities.ours), None)


def stamped_listed(image: Image) -> None:
    """By one that the authority's list has."""
    _sign(image, image.authorities.listed, None)


def stamped_old_list(image: Image) -> None:
    """By a certificate that is valid; the list of its scope is old."""
    stamped_unlisted(image)


def _past(
    image: Image,
    stamper: Stamper | None,
    ago: dt.timedelta = _NOW,
    of: bytes = b"",
    *,
    alter: bool = False,
) -> None:
    _sign(image, person(image.authorities.ours, valid=PAST), stamper, ago, of, alter=alter)


def _sign(
    image: Image,
    signer: Signer,
    stamper: Stamper | None,
    ago: dt.timedelta = _NOW,
    of: bytes = b"",
    *,
    alter: bool = False,
) -> None:
    """Sign each part of an image in both formats, with the timestamp of the signature or ``of`` other bytes."""

    def stamp(signature: bytes) -> bytes:
        found = stamper.stamp(of or signature, ago) if stamper else b""
        return found[:-1] + bytes([found[-1] ^ 1]) if alter else found

    for part in image.parts:
        statement = bundles.statement(part.digest)
        signature = signer.key.sign(bundles.pae(statement))
        content = certified.wrap(signer, statement, signature, None, stamp(signature))
        stored.add_bundle(image.registry, image.name, part, content)
        payload = simple.payload(image.name, part.digest)
        signature = signer.key.sign(payload)
        attached = certified.attached(signer, payload, signature, None, stamp(signature))
        stored.add_attachment(image.registry, image.name, part.digest, attached)
