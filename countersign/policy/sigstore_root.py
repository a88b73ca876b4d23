"""What a Sigstore trusted root lists, as PEM, for engines that take its parts and know no times of validity.

Such an engine takes an authority or a log for good as long as it stands in its policy. So what has an end in the
trusted root is left out here: what rests on it is refused there, and never taken for longer than the gate does.
(protobuf-specs, ``sigstore_trustroot.proto``)
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any

_EC = "PKIX_ECDSA_P256_SHA_256"


def authorities(root: Mapping[str, Any]) -> str:
    """Return the certificates of authorities that have no end: each root, and what below it has a time within its own.

    An engine trusts each of them by itself, and may not look at those above.
    """
    from cryptography import x509

    found = []
    for each in root.get("certificateAuthorities") or ():
        chain = [base64.b64decode(one["rawBytes"]) for one in each["certChain"]["certificates"]] if _lasts(each) else []
        begin = end = None
        for der in reversed(chain):
            one = x509.load_der_x509_certificate(der)
            first, last = one.not_valid_before_utc, one.not_valid_after_utc
            if (begin and first < begin) or (end and last > end):
                break
            begin, end = first, last
            found.append(_pem("CERTIFICATE", base64.b64encode(der).decode()))
    return "".join(found)


def log_keys(root: Mapping[str, Any], kind: str = "tlogs") -> list[str]:
    """Return the keys of logs that have no end and sign by ECDSA on P-256, as Rekor v1 and logs of certificates do."""
    return [
        _pem("PUBLIC KEY", each["publicKey"]["rawBytes"])
        for each in root.get(kind) or ()
        if each["publicKey"].get("keyDetails") == _EC and _lasts(each["publicKey"])
    ]


def _lasts(each: Mapping[str, Any]) -> bool:
    return not (each.get("validFor") or {}).get("end")


def _pem(kind: str, raw: str) -> str:
    return "\n".join([f"-----BEGIN {kind}-----", *_lines(base64.b64decode(raw)), f"-----END {kind}-----", ""])


def _lines(content: bytes) -> Iterator[str]:
    text = base64.b64encode(content).decode()
    return (text[at : at + 64] for at in range(0, len(text), 64))
