"""Signatures of the Notary Project on images of the matrix, good and bad (`lab.trials.marks.Notarized`)."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

from countersign.oci import referrers
from countersign.oci.descriptor import EMPTY_JSON, Descriptor
from lab.trials.image import Image
from lab.trials.marks import Notarized
from lab.trials.notaries import LASTING, NotarySigner
from lab.trials.signers import FUTURE, PAST
from signing import bundle as bundles
from signing import notation, stored

_HOUR = dt.timedelta(hours=1)
_VALID = {"now": LASTING, "past": PAST, "future": FUTURE}


def sign(image: Image, wanted: Notarized) -> None:
    """Hang a signature on each digest of an image."""
    signer, times = _signer(image, wanted), _times(wanted)
    for part in image.parts:
        if not wanted.wrong:
            stored.add_envelope(image.registry, image.name, part, signer.envelope(part, **times))
            continue
        if wanted.wrong == "rubbish":
            image.hang(part, bundles.wrap(b"{}", b"", ""))
        content = json.dumps(_wrong(wanted.wrong, signer, part, image.other(part))).encode()
        for blob in (EMPTY_JSON, content):
            image.registry.put_blob(image.name, blob)
        referrers.add(image.registry, image.name, notation.manifest(content, part, ()))


def _signer(image: Image, wanted: Notarized) -> NotarySigner:
    who = image.authorities
    if wanted.notary == "revoked":
        return who.notary_leaver
    by = who.notary if wanted.authority == "ours" else who.other_notary
    return by.issue(wanted.notary, valid=_VALID[wanted.valid])


def _times(wanted: Notarized) -> dict[str, dt.datetime]:
    """Return what the signer says of the time, where that is not now and for ever."""
    now = dt.datetime.now(dt.timezone.utc)
    if wanted.until:
        return {"at": now - _HOUR, "until": now - _HOUR / 2}
    return {"at": now + PAST[0] + _HOUR / 2} if wanted.valid == "past" else {}


def _wrong(what: str, signer: NotarySigner, part: Descriptor, other: Descriptor) -> dict[str, Any]:
    right, of_other = (json.loads(signer.envelope(each)) for each in (part, other))
    wrong: dict[str, dict[str, Any]] = {
        "no signature": {**right, "signature": "AAAA"},
        "other signature": {**right, "signature": of_other["signature"]},
        "other digest": of_other,
        "no root": {**right, "header": {"x5c": right["header"]["x5c"][:1]}},
        "rubbish": {"payload": "", "header": {"x5c": []}},
    }
    return wrong[what]
