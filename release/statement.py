"""Statements: in-toto v1 about files or images; signed, a DSSE envelope in a Sigstore bundle v0.3."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from countersign.oci.errors import Malformed

STATEMENT = "https://in-toto.io/Statement/v1"


def make(subjects: Mapping[str, str], predicate_type: str, predicate: Mapping[str, Any]) -> bytes:
    """Return a statement.

    Args:
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
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


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


def kind(content: bytes) -> str:
    """Return the last word of a bundle's predicate type."""
    return read(content, "")[0].rstrip("/").rpartition("/")[2]


def claimed(content: bytes) -> list[str]:
    """Return the SHA-256 digests that a bundle says it is about, statement or signature of a file; none if neither."""
    try:
        return list(read(content, "")[1])
    except Malformed:
        return [signed] if (signed := _signed(content)) else []


def of_file(content: bytes) -> bool:
    """Say whether a bundle is a file's signature, and no statement."""
    return bool(_signed(content))


def _signed(content: bytes) -> str:
    """Return the SHA-256 that a message signature names; empty if it is none."""
    try:
        message = json.loads(content)["messageSignature"]["messageDigest"]
        return base64.b64decode(message["digest"]).hex() if message["algorithm"] == "SHA2_256" else ""
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
