"""Identity tokens of a private Sigstore: JSON Web Tokens (RFC 7519) that its issuers vouch for, signed here."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from countersign.console.errors import UsageError
from signing.stack.place import AUDIENCE, Stack

LIFETIME = 600
"""Seconds that a token is good for."""
_MAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*")
_WORKFLOW = re.compile(
    r"https://github\.com/(?P<repository>(?P<owner>[A-Za-z0-9-]+)/[A-Za-z0-9._-]+)"
    r"/(?P<file>\.github/workflows/[A-Za-z0-9._-]+\.ya?ml)@(?P<ref>refs/(heads|tags|pull)/[A-Za-z0-9._/-]+)"
)
_SIZE = 32  # bytes of each number in an ES256 signature (RFC 7518, 3.4)


def claims(stack: Stack, subject: str, now: int) -> dict[str, Any]:
    """Return what a token for a subject says.

    Args:
        subject: an e-mail address, or a workflow's URI as GitHub Actions names them.
        now: seconds since the epoch.

    Raises:
        UsageError: it is neither.
    """
    common = {"aud": AUDIENCE, "iat": now, "nbf": now, "exp": now + LIFETIME}
    if _MAIL.fullmatch(subject):
        return {"iss": stack.mail_issuer, "sub": subject, "email": subject, "email_verified": True, **common}
    found = _WORKFLOW.fullmatch(subject)
    if not found:
        raise UsageError(
            f"got {subject!r}",
            where="--subject",
            expected="an e-mail address, or https://github.com/OWNER/REPO/.github/workflows/FILE.yml@refs/tags/TAG",
        )
    return {"iss": stack.workflow_issuer, **_workflow(found), **common}


def _workflow(found: re.Match[str]) -> dict[str, str]:
    """Return the claims that GitHub Actions would make; numbers and commits are made up from the names."""
    repository, owner, ref = found["repository"], found["owner"], found["ref"]
    workflow_ref = f"{repository}/{found['file']}@{ref}"
    commit = hashlib.sha1(workflow_ref.encode(), usedforsecurity=False).hexdigest()
    return {
        "sub": f"repo:{repository}:ref:{ref}",
        "repository": repository,
        "repository_id": _number(repository),
        "repository_owner": owner,
        "repository_owner_id": _number(owner),
        "repository_visibility": "public",
        "ref": ref,
        "sha": commit,
        "event_name": "push",
        "workflow": found["file"].rpartition("/")[2].rpartition(".")[0],
        "workflow_ref": workflow_ref,
        "workflow_sha": commit,
        "job_workflow_ref": workflow_ref,
        "job_workflow_sha": commit,
        "run_id": "1",
        "run_attempt": "1",
        "runner_environment": "self-hosted",
    }


def _number(text: str) -> str:
    return str(int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big"))


def mint(stack: Stack, subject: str) -> str:
    """Return a token for a subject; it is a secret until it ends.

    Raises:
        UsageError: the subject is neither an e-mail address nor a workflow.
    """
    said = claims(stack, subject, int(time.time()))
    key = serialization.load_pem_private_key((stack.folder / "issuer" / "key.pem").read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise UsageError("is not an EC key", where=str(stack.folder / "issuer" / "key.pem"))
    signed = ".".join(_url64(_json(part)) for part in ({"alg": "ES256", "typ": "JWT", "kid": _kid(key)}, said))
    numbers = decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{signed}.{_url64(b''.join(number.to_bytes(_SIZE, 'big') for number in numbers))}"


def key_set(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the issuer's public keys as it serves them (RFC 7517)."""
    numbers = key.public_key().public_numbers()
    x, y = (_url64(number.to_bytes(_SIZE, "big")) for number in (numbers.x, numbers.y))
    found = {"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": _kid(key), "x": x, "y": y}
    return _json({"keys": [found]})


def _kid(key: ec.EllipticCurvePrivateKey) -> str:
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(public).hexdigest()[:16]


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _url64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
