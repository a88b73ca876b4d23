"""Attestations: in-toto statements about an image's digests, signed as images are, hung on it as bundles."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from countersign.console.errors import UsageError
from countersign.oci import referrers
from countersign.oci.descriptor import Descriptor
from countersign.oci.errors import RegistryError
from countersign.oci.registry import Registry
from signing import bundle, sign, stored
from signing.signer import Signer
from signing.stored import Found

PREDICATE_LIMIT = 16 << 20  # bytes; what the gate reads of one attestation
TYPES: Mapping[str, str] = {
    "custom": "https://cosign.sigstore.dev/attestation/v1",
    "cyclonedx": "https://cyclonedx.org/bom",
    "link": "https://in-toto.io/Link/v1",
    "openvex": "https://openvex.dev/ns",
    "slsaprovenance": "https://slsa.dev/provenance/v0.2",
    "slsaprovenance02": "https://slsa.dev/provenance/v0.2",
    "slsaprovenance1": "https://slsa.dev/provenance/v1",
    "spdx": "https://spdx.dev/Document",
    "spdxjson": "https://spdx.dev/Document",
    "vuln": "https://cosign.sigstore.dev/attestation/vuln/v1",
}
"""cosign's short names → predicate types."""
_MEMBERS: Mapping[str, str] = {
    "cyclonedx": "bomFormat",
    "openvex": "statements",
    "slsaprovenance": "builder",
    "slsaprovenance02": "builder",
    "slsaprovenance1": "buildDefinition",
    "spdx": "spdxVersion",
    "spdxjson": "spdxVersion",
    "vuln": "scanner",
}
"""Short name → a member without which a predicate is none of that type."""
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s\x00-\x1f\x7f]{1,500}")
_DEPTH = 60  # the gate reads 64 levels of a statement


def predicate_type(name: str) -> str:
    """Return the predicate type of a short name of cosign's, or the URI that it is.

    Raises:
        UsageError: it is neither, or that of image signatures.
    """
    if not name:
        raise UsageError("no type", expected=f"--type with a URI or one of {', '.join(TYPES)}")
    uri = TYPES.get(name, name)
    if not _URI.fullmatch(uri):
        raise UsageError(f"got {name!r}", where="--type", expected=f"a URI, or one of {', '.join(TYPES)}")
    if uri == bundle.PREDICATE_TYPE:
        raise UsageError("that is the type of image signatures", where="--type", do="sign images with signing.sign")
    return uri


def predicate(file: Path, name: str = "") -> dict[str, Any]:
    """Read a predicate: one JSON object that every reader takes for the same.

    Args:
        file: what holds it; at most 16 MiB.
        name: the short name of its type; what it names must have a member that all of that type have.
            ``custom`` takes any text, and says it as cosign does.

    Raises:
        UsageError: it cannot be read, or is not such a predicate.
    """
    where = str(file)
    try:
        with file.open("rb") as opened:
            content = opened.read(PREDICATE_LIMIT + 1)
    except OSError as err:
        raise UsageError(f"the predicate cannot be read: {err.strerror}", where=where) from err
    if len(content) > PREDICATE_LIMIT:
        raise UsageError("larger than 16 MiB", where=where, expected="a predicate that gates read")
    try:
        text = content.decode()
        if name == "custom":
            return {"Data": text, "Timestamp": ""}
        found = json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
        json.dumps(found, ensure_ascii=False).encode()  # half of a surrogate pair is not text
    except (ValueError, RecursionError) as err:
        raise UsageError(f"no JSON that all read alike: {err}", where=where, expected="a JSON object") from err
    if not isinstance(found, dict) or _deep(found, _DEPTH):
        raise UsageError(
            "is not a JSON object, or too deep", where=where, expected=f"an object of {_DEPTH} levels at most"
        )
    if _MEMBERS.get(name, "") not in {"", *found}:
        raise UsageError(f"has no member {_MEMBERS[name]!r}", where=where, expected=f"a predicate of the type {name}")
    return found


def attest(
    registry: Registry, name: str, target: Descriptor, signer: Signer, kind: str, stated: Mapping[str, Any]
) -> bool:
    """Attest something about one digest; return whether that was not there already.

    Raises:
        RegistryError: the registry fails.
    """
    wanted = bundle.statement(target.digest, kind, stated, named=signer.names_subjects)
    limit = len(wanted) * 2 + bundle.BUNDLE_LIMIT
    if signer.lasting and any(
        sign.wrote(registry, name, signer, one, wanted, limit) for one in _listed(registry, name, target, kind)
    ):
        return False
    stored.add_bundle(registry, name, target, signer.statement(wanted), kind)
    return True


def _listed(registry: Registry, name: str, target: Descriptor, kind: str) -> Sequence[Found]:
    try:
        entries = referrers.listing(registry, name, target.digest)
    except RegistryError:
        return []  # what cannot be listed is not what would be written
    return [Found("bundle", entry) for entry in entries if bundle.may_state(entry, kind)]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has a duplicate member")
    return found


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is not a number of JSON")


def _deep(value: object, left: int) -> bool:
    """Say whether a JSON value has more levels than that."""
    inside: Sequence[object] = (
        list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else ()
    )
    return left == 0 or any(_deep(each, left - 1) for each in inside if isinstance(each, dict | list))
