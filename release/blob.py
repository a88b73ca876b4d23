"""Signatures of files: a Sigstore bundle v0.3 with a message signature, as ``cosign sign-blob --bundle`` writes it."""

from __future__ import annotations

import base64
import hashlib
import json

from countersign.keys.pair import PrivateKey
from signing.bundle import MEDIA_TYPE


def sign(key: PrivateKey, content: bytes) -> bytes:
    """Sign a file's content; return the bundle, with a line break at its end."""
    document = {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": key.public.hint}},
        "messageSignature": {
            "messageDigest": {
                "algorithm": "SHA2_256",
                "digest": base64.b64encode(hashlib.sha256(content).digest()).decode(),
            },
            "signature": base64.b64encode(key.sign(content)).decode(),
        },
    }
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"
