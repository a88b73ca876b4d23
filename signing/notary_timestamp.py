"""Timestamps in envelopes of the Notary Project: taken only if they are of an authority that one's own roots vouch for.

A signature is only as lasting as its timestamp, and who verifies it later may trust fewer authorities (CVE-2024-56138).
"""

from __future__ import annotations

from pathlib import Path

from countersign.console.errors import InfrastructureError
from signing import chain as chains
from signing.timestamp import Server


class NoTimestamp(InfrastructureError):
    """An authority gave a timestamp that does not count."""


def token(server: Server, roots: Path, signature: bytes) -> bytes:
    """Return a timestamp token over a signature.

    Args:
        roots: PEM file with the roots that it leads to.

    Raises:
        InfrastructureError: there is none, or it is not by such an authority over this signature.
    """
    import rfc3161_client as tsp

    response = tsp.decode_timestamp_response(server.stamp(signature))
    verifier = tsp.VerifierBuilder()
    for root in chains.load(roots):
        verifier = verifier.add_root_certificate(root)
    try:
        verifier.build().verify_message(response, signature)
    except (ValueError, tsp.VerificationError) as err:
        raise NoTimestamp(
            f"the answer is not a timestamp that counts: {err}",
            where=server.url,
            expected=f"one by an authority of {roots}",
        ) from err
    return bytes(response.time_stamp_token())
