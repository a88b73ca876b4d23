"""What signers and verifiers are given of a private Sigstore: trusted root, signing config, and both in one.

The forms are those of Sigstore's protobuf-specs (``sigstore_trustroot.proto``), as JSON.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from signing.stack.certificates import Chain, Key, public_der
from signing.stack.place import HOST, Stack

_OPERATOR = "private"
_MEDIA_TYPE = "application/vnd.dev.sigstore."
_ED25519_NOTE = b"\x01"
"""The kind of an Ed25519 key in the identity of a log (C2SP signed-note, "Signature types")."""

Document = dict[str, Any]


def trusted_root(
    stack: Stack, start: dt.datetime, authority: Chain, timestamps: Chain, logs: Mapping[str, Key]
) -> Document:
    """Return the trusted root.

    Args:
        start: since when all of it is good.
        logs: ``ct``, ``rekor`` and ``rekor-v1`` → the key of that log.
    """
    valid = {"start": _time(start)}
    return {
        "mediaType": f"{_MEDIA_TYPE}trustedroot+json;version=0.1",
        "tlogs": [_log(stack.url(name), logs[name], valid) for name in ("rekor", "rekor-v1")],
        "certificateAuthorities": [_authority(stack.url("fulcio"), authority, valid)],
        "ctlogs": [_log(stack.url("ct"), logs["ct"], valid)],
        "timestampAuthorities": [_authority(_timestamps_url(stack), timestamps, valid)],
    }


def signing_config(stack: Stack, start: dt.datetime) -> Document:
    """Return the signing config: of both Rekors a signer takes the newest that it knows."""
    return {
        "mediaType": f"{_MEDIA_TYPE}signingconfig.v0.2+json",
        "caUrls": [_service(stack.url("fulcio"), 1, start)],
        "oidcUrls": [_service(stack.mail_issuer, 1, start)],
        "rekorTlogUrls": [_service(stack.url("rekor"), 2, start), _service(stack.url("rekor-v1"), 1, start)],
        "rekorTlogConfig": {"selector": "ANY"},
        "tsaUrls": [_service(_timestamps_url(stack), 1, start)],
        "tsaConfig": {"selector": "ANY"},
    }


def trust_config(root: Document, config: Document) -> Document:
    """Return both in one."""
    return {
        "mediaType": f"{_MEDIA_TYPE}clienttrustconfig.v0.1+json",
        "trustedRoot": root,
        "signingConfig": config,
    }


def _timestamps_url(stack: Stack) -> str:
    return f"{stack.url('timestamps')}/api/v1/timestamp"


def _service(url: str, version: int, start: dt.datetime) -> Document:
    return {"url": url, "majorApiVersion": version, "validFor": {"start": _time(start)}, "operator": _OPERATOR}


def _authority(url: str, chain: Chain, valid: Mapping[str, str]) -> Document:
    ders: Sequence[bytes] = [each.public_bytes(serialization.Encoding.DER) for each in chain.certificates]
    return {
        "subject": {"organization": "private Sigstore", "commonName": "private Sigstore"},
        "uri": url,
        "certChain": {"certificates": [{"rawBytes": _b64(der)} for der in ders]},
        "validFor": valid,
    }


def _log(url: str, key: Key, valid: Mapping[str, str]) -> Document:
    edwards = isinstance(key, ed25519.Ed25519PrivateKey)
    return {
        "baseUrl": url,
        "hashAlgorithm": "SHA2_256",
        "publicKey": {
            "rawBytes": _b64(public_der(key)),
            "keyDetails": "PKIX_ED25519" if edwards else "PKIX_ECDSA_P256_SHA_256",
            "validFor": valid,
        },
        "logId": {"keyId": _b64(_log_id(key))},
    }


def _log_id(key: Key) -> bytes:
    """Return how entries and SCTs name a log: by its key (RFC 6962, 3.2), for Ed25519 by name and key (signed-note)."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return hashlib.sha256(f"{HOST}\n".encode() + _ED25519_NOTE + raw).digest()
    return hashlib.sha256(public_der(key)).digest()


def _time(moment: dt.datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _b64(content: bytes) -> str:
    return base64.b64encode(content).decode()
