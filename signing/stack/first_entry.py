"""The first entry of a new Rekor v2 is our own, of nothing.

Clients leave zeros out of JSON, and sigstore-python (4.5.1) reads no entry without its index: whoever signed first
would have a signature that it refuses.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass

from countersign.console.errors import InfrastructureError
from signing.stack.place import Stack

_CREATED = 201
_SECONDS = 10


@dataclass(frozen=True)
class FirstEntry:
    """The step that logs it."""

    stack: Stack

    name = "the log's first entry"

    def needed(self) -> bool:
        """Return whether the log has none: its checkpoint names its size in the second line (C2SP tlog-checkpoint)."""
        try:
            checkpoint = (self.stack.folder / "rekor" / "log" / "checkpoint").read_text(encoding="utf-8")
        except FileNotFoundError:
            return True
        return checkpoint.splitlines()[1:2] in ([], ["0"])

    def apply(self) -> None:
        """Log it.

        Raises:
            InfrastructureError: the log does not take it.
        """
        import urllib3

        url = f"{self.stack.url('rekor')}/api/v2/log/entries"
        headers = {"Content-Type": "application/json"}
        with urllib3.PoolManager(retries=False, timeout=_SECONDS) as client:
            try:
                answer = client.request("POST", url, body=_request(), headers=headers)
            except urllib3.exceptions.HTTPError as error:
                raise InfrastructureError(str(error), where=url) from error
        if answer.status != _CREATED:
            raise InfrastructureError(
                f"got {answer.status}: {answer.data[:200].decode(errors='replace')}", where=url, expected=str(_CREATED)
            )


def _request() -> bytes:
    """Return a request for an entry (Rekor v2, ``HashedRekordRequestV002``), with a key that is then forgotten."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    from signing.stack.certificates import new_key, public_der

    key, content = new_key(), b""
    verifier = {"publicKey": {"rawBytes": _b64(public_der(key))}, "keyDetails": "PKIX_ECDSA_P256_SHA_256"}
    signature = {"content": _b64(key.sign(content, ec.ECDSA(hashes.SHA256()))), "verifier": verifier}
    entry = {"digest": _b64(hashlib.sha256(content).digest()), "signature": signature}
    return json.dumps({"hashedRekordRequestV002": entry}).encode()


def _b64(content: bytes) -> str:
    return base64.b64encode(content).decode()
