"""Signatures with a certificate, in both formats, as cosign writes them: content, certificate and log entry.

The parts are put together by hand, so that each can be one that belongs to something else.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from lab.trials.authority import Authority, Signer
from signing import attachment as simple
from signing import bundle as bundles
from signing import timestamp
from signing.certified import CERTIFICATE, CHAIN
from signing.identity import LOGGED, logged

Entry = Mapping[str, Any]
"""A log's entry: ``TransparencyLogEntry`` as JSON."""


def bundle(signer: Signer, statement: bytes, log: Authority | None = None) -> bytes:
    """Sign a statement and return the bundle, with an entry of ``log``."""
    signature = signer.key.sign(bundles.pae(statement))
    return wrap(signer, statement, signature, dsse_entry(log, signer, statement, signature) if log else None)


def wrap(signer: Signer, statement: bytes, signature: bytes, entry: Entry | None, stamp: bytes = b"") -> bytes:
    """Return the bundle of parts that have been made already; ``stamp`` is the answer of a timestamp authority."""
    document = json.loads(bundles.wrap(statement, signature, ""))
    document["verificationMaterial"] = {
        "certificate": {"rawBytes": _b64(signer.der)},
        **({"tlogEntries": [entry]} if entry else {}),
        **(timestamp.material(stamp) if stamp else {}),
    }
    return json.dumps(document).encode()


def dsse_entry(
    log: Authority, signer: Signer, statement: bytes, signature: bytes, ago: dt.timedelta = dt.timedelta(0)
) -> Entry:
    """Have a log take the signature of a statement (Rekor's type ``dsse`` 0.0.1), ``ago`` before now."""
    envelope = json.loads(bundles.wrap(statement, signature, ""))["dsseEnvelope"]
    spec = {
        "envelopeHash": _sha256(json.dumps(envelope, sort_keys=True, separators=(",", ":")).encode()),
        "payloadHash": _sha256(statement),
        "signatures": [{"signature": _b64(signature), "verifier": _b64(signer.pem.encode())}],
    }
    return log.log("dsse", spec, ago)


def attachment(signer: Signer, payload: bytes, log: Authority | None = None) -> simple.Attachment:
    """Sign a payload and return the attachment, with an entry of ``log``."""
    signature = signer.key.sign(payload)
    return attached(signer, payload, signature, rekord_entry(log, signer, payload, signature) if log else None)


def attached(
    signer: Signer, payload: bytes, signature: bytes, entry: Entry | None, stamp: bytes = b""
) -> simple.Attachment:
    """Return the attachment of parts that have been made already; ``stamp`` as in `wrap`."""
    stamped = timestamp.annotation(stamp) if stamp else {}
    return simple.Attachment(payload, _b64(signature), {**beside(signer, entry), **stamped})


def beside(signer: Signer, entry: Entry | None) -> dict[str, str]:
    """Return what cosign 1 and 2 put beside what they attach: the certificate and its log entry."""
    found = {CERTIFICATE: signer.pem, CHAIN: ""}
    if entry:
        found[LOGGED] = logged(entry)
    return found


def rekord_entry(log: Authority, signer: Signer, payload: bytes, signature: bytes) -> Entry:
    """Have a log take the signature of a payload (Rekor's type ``hashedrekord`` 0.0.1)."""
    spec = {
        "data": {"hash": _sha256(payload)},
        "signature": {"content": _b64(signature), "publicKey": {"content": _b64(signer.pem.encode())}},
    }
    return log.log("hashedrekord", spec)


def _sha256(content: bytes) -> dict[str, str]:
    return {"algorithm": "sha256", "value": hashlib.sha256(content).hexdigest()}


def _b64(content: bytes) -> str:
    return base64.b64encode(content).decode()
