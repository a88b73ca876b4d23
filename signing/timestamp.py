"""Timestamps (RFC 3161): a server vouches for the time at which a signature was there.

What it answers is read, and has to be about this very signature. Whether anybody trusts the server is for who verifies.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

from countersign.console.errors import InfrastructureError, UsageError
from countersign.oci.hosts import is_loopback
from countersign.oci.proxy import NONE, Proxies

ANNOTATION = "dev.sigstore.cosign/rfc3161timestamp"
_LIMIT = 64 << 10  # bytes of an answer; one with a chain of three RSA certificates has some 6 KiB
_SECONDS = 10
_GRANTED = (0, 1)  # RFC 3161, 2.4.2: granted, granted with modifications


@dataclass(frozen=True)
class Server:
    """A timestamp server.

    Attributes:
        url: where it takes requests.
        proxies: by which it is reached.
    """

    url: str
    proxies: Proxies = NONE

    def __post_init__(self) -> None:
        """Check the URL.

        Raises:
            UsageError: it is none of a server, or plain HTTP beyond loopback.
        """
        try:
            split = urlsplit(self.url)
            good = bool(split.hostname) and (
                split.scheme == "https" or (split.scheme == "http" and is_loopback(split.netloc))
            )
        except ValueError:
            good = False
        if not good:
            expected = "https://HOST/PATH of a timestamp server (plain HTTP on loopback only)"
            raise UsageError(f"got {self.url!r}", where="signing.timestamp_server", expected=expected)

    def stamp(self, signature: bytes) -> bytes:
        """Have a signature timestamped; return the response in DER.

        Raises:
            InfrastructureError: there is no answer, or none about this signature.
        """
        from rfc3161_client import HashAlgorithm, TimestampRequestBuilder, decode_timestamp_response

        builder = TimestampRequestBuilder().hash_algorithm(HashAlgorithm.SHA256).data(signature)
        asked = builder.nonce(nonce=True).build()
        answer = self._post(asked.as_bytes())
        try:
            response = decode_timestamp_response(answer)
            if response.status not in _GRANTED:
                raise self._bad(f"it refused, with status {response.status} {' '.join(response.status_string)[:200]}")
            said = response.tst_info
            same = (said.message_imprint.message, said.nonce) == (hashlib.sha256(signature).digest(), asked.nonce)
        except ValueError as err:
            raise self._bad(f"no timestamp that can be read: {err}") from err
        if not same:
            raise self._bad("a timestamp of something else")
        return answer

    def _post(self, body: bytes) -> bytes:
        import ssl

        import urllib3
        from urllib3.exceptions import HTTPError

        from countersign.oci.proxy import connections

        tls = ssl.create_default_context() if self.url.startswith("https:") else None
        with connections(tls, self.proxies.of(self.url)) as pool:
            try:
                answer = pool.request(
                    "POST",
                    self.url,
                    body=body,
                    headers={"Content-Type": "application/timestamp-query"},
                    timeout=urllib3.Timeout(total=_SECONDS),
                    retries=False,
                    redirect=False,
                    preload_content=False,
                )
                content = answer.read(_LIMIT + 1)
            except (HTTPError, OSError) as err:
                raise self._bad(f"does not answer: {err}") from err
        if answer.status not in (HTTPStatus.OK, HTTPStatus.CREATED) or len(content) > _LIMIT:
            raise self._bad(f"answers with HTTP {answer.status} and {len(content)} bytes")
        return bytes(content)

    def _bad(self, found: str) -> InfrastructureError:
        return InfrastructureError(
            found, where=self.url, expected="a timestamp (RFC 3161)", do="look into its log, or name another server"
        )


def annotation(response: bytes) -> dict[str, str]:
    """Return a response as cosign's annotation of an attachment has it."""
    return {ANNOTATION: json.dumps({"SignedRFC3161Timestamp": b64encode(response).decode()}, separators=(",", ":"))}


def material(response: bytes) -> dict[str, object]:
    """Return a response as the ``verificationMaterial`` of a bundle has it."""
    return {"timestampVerificationData": {"rfc3161Timestamps": [{"signedTimestamp": b64encode(response).decode()}]}}
