"""Attestations: an in-toto statement v1 about files or images, signed as a DSSE envelope in a Sigstore bundle v0.3."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from countersign.keys.pair import PrivateKey
from countersign.oci.errors import Malformed
from signing import bundle

STATEMENT = "https://in-toto.io/Statement/v1"


def attest(key: PrivateKey, subjects: Mapping[str, str], predicate_type: str, predicate: Mapping[str, Any]) -> bytes:
    """Return the bundle of a statement.

    Args:
        key: who states it.
        subjects: name → SHA-256 in hexadecimal of what it is about.
        predicate_type: what kind of statement.
        predicate: what is stated.
    """
    document = {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": value}} for name, value in subjects.items()],
        "predicateType": predicate_type,
        "predicate": predicate,
    }
    return bundle.sign(key, json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode())


def read(content: bytes, where: str) -> tuple[str, dict[str, str], dict[str, Any]]:
    """Return predicate type, subjects (SHA-256 → name) and predicate of a bundle, whoever signed it.

    Raises:
        Malformed: it has no statement.
    """
    try:
        document = json.loads(base64.b64decode(json.loads(content)["dsseEnvelope"]["payload"]))
        subjects = {str(each["digest"]["sha256"]): str(each.get("name", "")) for each in document["subject"]}
        return str(document["predicateType"]), subjects, dict(document["predicate"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as err:
        raise Malformed("has no in-toto statement about a SHA-256", where=where) from err


def claimed(content: bytes) -> list[str]:
    """Return the SHA-256 digests that a bundle says it is about, statement or signature of a file; none if neither."""
    try:
        return list(read(content, "")[1])
    except Malformed:
        pass
    try:
        message = json.loads(content)["messageSignature"]["messageDigest"]
        return [base64.b64decode(message["digest"]).hex()] if message["algorithm"] == "SHA2_256" else []
    except (ValueError, KeyError, TypeError, RecursionError):
        return []
