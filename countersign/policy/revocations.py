"""Lists of what is trusted no more: signed and numbered files that several policies include.

Each is a JSON document with its signatures beside it (``FILE.sig``), in the form of a policy's own (ADR 0021).
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from countersign.keys.pair import PublicKey
from countersign.policy.certificates import BadFile
from countersign.policy.model import Policy, Revocations
from countersign.policy.problems import dotted, shown

T = TypeVar("T")
VERSION = "countersign.revocations/v1"
SIGNATURES = ".sig"
MAX_BYTES, _MAX_SIGNATURES = 1 << 20, 64 << 10
MAX_LINES = 16
_MAX_SERIAL = (1 << 53) - 1
_DO = "have it signed: ./inv signing.revocation-list"

_Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Issued(_Strict):
    issuer: str = Field(min_length=1)
    serial: str = Field(pattern=r"^(0|[1-9a-f][0-9a-f]{0,39})$")


class _Entry(_Strict):
    version: Literal["countersign.revocations/v1"]
    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,128}$")
    serial: int = Field(ge=1, le=_MAX_SERIAL)
    issued: str = Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")
    keys: list[_Digest] = Field(default=[], max_length=10_000)
    certificates: list[_Digest | _Issued] = Field(default=[], max_length=10_000)
    digests: list[_Digest] = Field(default=[], max_length=10_000)


def read(path: Path, signers: Sequence[PublicKey]) -> Revocations:
    """Read a list that one of ``signers`` has signed.

    Raises:
        BadFile: it cannot be read, is not such a list, or none of them has signed it as it is.
    """
    content, signatures = _bytes(path, MAX_BYTES), signatures_beside(path)
    if not any(signed_by(signer, content, signatures) for signer in signers):
        beside = f"{shown(path)}{SIGNATURES}"
        found = "none is by a key that the policy names, of these very bytes" if signatures else "there is none"
        raise BadFile(f"{shown(path)}: its signature is asked for in {beside}, and {found}; {_DO}")
    entry = parse(content, path)
    return Revocations(
        path,
        entry["name"],
        entry["serial"],
        entry["issued"],
        tuple(signer.pem for signer in signers),
        content.decode(),
        tuple(signatures),
        tuple(dict.fromkeys(entry["keys"])),
        tuple(dict.fromkeys(entry["digests"])),
        tuple(
            dict.fromkeys(
                one if isinstance(one, str) else (one["issuer"], one["serial"]) for one in entry["certificates"]
            )
        ),
    )


def parse(content: bytes, path: Path) -> dict[str, Any]:
    """Return a list's document, checked, with all its members.

    Raises:
        BadFile: it is not such a list.
    """
    try:
        document = json.loads(content.decode(), object_pairs_hook=_once)
        entry = _Entry.model_validate(document)
        date.fromisoformat(entry.issued)
    except ValidationError as err:
        first = err.errors(include_url=False)[0]
        where = dotted(first["loc"][:2])  # what follows are pydantic's names of an entry's forms
        raise BadFile(f"{shown(path)}: {where or 'it'}: {first['msg']}; expected a list of version {VERSION}") from err
    except (ValueError, RecursionError) as err:
        raise BadFile(f"{shown(path)}: {err}; expected a list of version {VERSION}, as JSON") from err
    return entry.model_dump()


def included(policy: Policy, lists: Sequence[Revocations]) -> Policy:
    """Return a policy that revokes what lists name, too; what it names itself is not said twice."""
    return replace(
        policy,
        revoked_keys=(*policy.revoked_keys, *_more(policy.revoked_keys, [each.keys for each in lists])),
        revoked_digests=(*policy.revoked_digests, *_more(policy.revoked_digests, [each.digests for each in lists])),
        revoked_certificates=(
            *policy.revoked_certificates,
            *_more(policy.revoked_certificates, [each.certificates for each in lists]),
        ),
        lists=tuple(lists),
    )


def _more(own: Sequence[T], lists: Sequence[Sequence[T]]) -> list[T]:
    known = set(own)
    return [one for one in dict.fromkeys(chain.from_iterable(lists)) if one not in known]


def signed_by(signer: PublicKey, content: bytes, signatures: Sequence[str]) -> bool:
    """Return whether one of the signatures, in base64, is by a key."""
    return any(signer.verifies(_decoded(line), content) for line in signatures)


def signatures_beside(path: Path) -> list[str]:
    """Return what lies beside a list as signatures, in base64; nothing where there is no such file.

    Raises:
        BadFile: it cannot be read.
    """
    beside = path.with_name(path.name + SIGNATURES)
    if not beside.exists():
        return []
    lines = _bytes(beside, _MAX_SIGNATURES).decode(errors="replace").splitlines()
    return [line.strip() for line in lines if line.strip()][:MAX_LINES]


def _decoded(line: str) -> bytes:
    try:
        return b64decode(line, validate=True)
    except ValueError:
        return b""


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError(f"a member twice among {', '.join(name for name, _ in pairs)}")
    return found


def _bytes(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as err:
        raise BadFile(f"{shown(path)}: {err.strerror}; expected a file that can be read") from err
    if len(content) > limit:
        raise BadFile(f"{shown(path)}: more than {limit} bytes; expected less")
    return content
