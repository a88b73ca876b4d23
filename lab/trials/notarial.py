"""How each image of the matrix comes to be that is signed for the Notary Project; see ``images``."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from countersign.oci.descriptor import Descriptor
from lab.trials.notaries import NotarySigner
from lab.trials.signers import FUTURE, PAST
from signing import bundle as bundles
from signing import notation, stored

if TYPE_CHECKING:
    from lab.trials.images import Image

_HOUR = dt.timedelta(hours=1)


def notation_right(image: Image) -> None:
    """Signed by the one whom the policy names."""
    _sign(image, image.authorities.notary.issue())


def notation_good_and_bad(image: Image) -> None:
    """Signatures of a stranger's authority, of somebody else and rubbish first, then the right one."""
    _sign(image, image.authorities.other_notary.issue())
    _sign(image, image.authorities.notary.issue("intern"))
    _altered(image, lambda document: {**document, "signature": "AAAA"})
    _sign(image, image.authorities.notary.issue())


def notation_unsigned(image: Image) -> None:
    """Nothing hangs on it: what did was stripped."""


def notation_key_only(image: Image) -> None:
    """Signed by a key, in the two formats that need no certificate."""
    image.sign("team")


def notation_other_ca(image: Image) -> None:
    """The same subject in a certificate of a stranger's authority of the same name."""
    _sign(image, image.authorities.other_notary.issue())


def notation_other_identity(image: Image) -> None:
    """Another subject of the same authority."""
    _sign(image, image.authorities.notary.issue("intern"))


def notation_expired(image: Image) -> None:
    """The certificate has ended; that it was signed before, the signer alone says."""
    now = dt.datetime.now(dt.timezone.utc)
    _sign(image, image.authorities.notary.issue(valid=PAST), at=now + PAST[0] + _HOUR / 2)


def notation_not_yet_valid(image: Image) -> None:
    """The certificate begins later."""
    _sign(image, image.authorities.notary.issue(valid=FUTURE))


def notation_past_expiry(image: Image) -> None:
    """The signature's own expiry has passed."""
    now = dt.datetime.now(dt.timezone.utc)
    _sign(image, image.authorities.notary.issue(), at=now - _HOUR, until=now - _HOUR / 2)


def notation_revoked(image: Image) -> None:
    """Signed with a certificate that the policy revokes."""
    _sign(image, image.authorities.notary_leaver)


def notation_altered(image: Image) -> None:
    """A signature around a payload that it does not sign."""
    ours = image.authorities.notary.issue()
    for part in image.parts:
        other = json.loads(ours.envelope(_other(image, part)))
        right = json.loads(ours.envelope(part))
        _hang(image, part, {**right, "signature": other["signature"]})


def notation_other_digest(image: Image) -> None:
    """A valid signature of another digest."""
    ours = image.authorities.notary.issue()
    for part in image.parts:
        _hang(image, part, json.loads(ours.envelope(_other(image, part))))


def notation_chain_ends_nowhere(image: Image) -> None:
    """The signer's certificate without the root."""
    _altered(image, lambda document: {**document, "header": {"x5c": document["header"]["x5c"][:1]}})


def notation_rubbish(image: Image) -> None:
    """An envelope that is none, and a bundle in its place."""
    for part in image.parts:
        stored.add_bundle(image.registry, image.name, part, bundles.wrap(b"{}", b"", ""))
        _hang(image, part, {"payload": "", "header": {"x5c": []}})


def _sign(image: Image, signer: NotarySigner, **times: dt.datetime) -> None:
    for part in image.parts:
        stored.add_envelope(image.registry, image.name, part, signer.envelope(part, **times))


def _altered(image: Image, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    ours = image.authorities.notary.issue()
    for part in image.parts:
        _hang(image, part, change(json.loads(ours.envelope(part))))


def _hang(image: Image, part: Descriptor, document: dict[str, Any]) -> None:
    """Store an envelope whatever it holds."""
    from countersign.oci import referrers
    from countersign.oci.descriptor import EMPTY_JSON

    content = json.dumps(document).encode()
    for blob in (EMPTY_JSON, content):
        image.registry.put_blob(image.name, blob)
    referrers.add(image.registry, image.name, notation.manifest(content, part, ()))


def _other(image: Image, part: Descriptor) -> Descriptor:
    return Descriptor(part.media_type, image.other(part), part.size)
