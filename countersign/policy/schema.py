"""The form of ``policy.yaml`` as pydantic models, and its errors in words."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from countersign.policy import unknown
from countersign.policy.document import Document
from countersign.policy.problems import Key, PolicyInvalid

_SHOWN = 80  # characters
_ROOT = _SCOPE = 2  # parts of a root's or scope's own key: ("scopes", "registry.example")
_RULE = "{anyOf: [ROOT…]}, {allOf: [ROOT…]}, accept or reject"
_EXPECTED = {
    "string_type": "a string",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "too_short": "at least one entry",
}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=False)


class PublicKeyEntry(_Strict):
    """Files with public keys; a signature by any of them is good. Of each may be said since when it is in use."""

    files: list[str] = Field(min_length=1)
    since: dict[str, date | str] = {}


class RequireEntry(_Strict):
    """How many of each a keyless signature must have; what is not given follows from the trusted root."""

    sct: int | None = Field(default=None, ge=0, le=8)
    log: int | None = Field(default=None, ge=0, le=8)
    time: int | None = Field(default=None, ge=0, le=8)


class KeylessEntry(_Strict):
    """Certificates of a Sigstore, for one identity."""

    issuer: str
    subject: str
    claims: dict[str, str] = {}
    trusted_root: str | list[str] = Field(alias="trustedRoot")
    require: RequireEntry | None = None


class PkiEntry(_Strict):
    """Certificates of one's own authorities, for one name; all files are PEM."""

    roots: list[str] = Field(min_length=1)
    intermediates: list[str] = []
    email: str = ""
    dns: str = ""
    uri: str = ""
    timestamp_roots: list[str] = Field(default=[], alias="timestampRoots")
    crls: list[str] = []


class NotationEntry(_Strict):
    """Certificates as the Notary Project has them; all files are PEM."""

    roots: list[str] = []
    signing_authorities: list[str] = Field(default=[], alias="signingAuthorities")
    identities: list[str] = Field(min_length=1)
    timestamp_roots: list[str] = Field(default=[], alias="timestampRoots")
    crls: list[str] = []


class RootEntry(_Strict):
    """A root of trust: one of its kinds."""

    public_key: PublicKeyEntry | None = Field(default=None, alias="publicKey")
    keyless: KeylessEntry | None = None
    pki: PkiEntry | None = None
    notation: NotationEntry | None = None

    @model_validator(mode="before")
    @classmethod
    def _one_kind(cls, value: Any) -> Any:
        """Refuse a root of no kind, of several, and of one that is empty."""
        if isinstance(value, Mapping) and len(value) != 1:
            raise PydanticCustomError("one_kind", "one kind")
        return value


class IssuedEntry(_Strict):
    """A certificate by who has issued it (RFC 2253) and its serial number (hexadecimal)."""

    issuer: str = Field(min_length=1)
    serial: str = Field(pattern=r"^(0[xX])?[0-9A-Fa-f:]+$")


class AttestationEntry(_Strict):
    """A statement about the image that a scope asks for beside signatures."""

    type: str
    by: list[str] = Field(min_length=1)
    where: str | None = None
    max_age: str | None = Field(default=None, alias="maxAge")


class _Signed(_Strict):
    """What a rule may say beside its roots."""

    formats: list[Literal["attachment", "bundle", "notation"]] | None = Field(default=None, min_length=1)
    signature: str | None = None
    attestations: list[AttestationEntry] = Field(default=[], max_length=16)


class AnyOfEntry(_Signed):
    """One of these roots must have signed."""

    roots: list[str] = Field(alias="anyOf", min_length=1)
    kind: ClassVar[Literal["anyOf"]] = "anyOf"


class AllOfEntry(_Signed):
    """Each of these roots must have signed."""

    roots: list[str] = Field(alias="allOf", min_length=1)
    kind: ClassVar[Literal["allOf"]] = "allOf"


_NAMED = Discriminator(lambda value: "issued" if isinstance(value, Mapping) else "file")


class ListEntry(_Strict):
    """A list of what is trusted no more, and the keys of which one has to have signed it."""

    file: str
    keys: list[str] = Field(min_length=1, max_length=16)


class RevokedEntry(_Strict):
    """What is trusted no more."""

    keys: list[str] = []
    certificates: list[Annotated[Annotated[str, Tag("file")] | Annotated[IssuedEntry, Tag("issued")], _NAMED]] = []
    digests: list[str] = []
    lists: list[ListEntry] = Field(default=[], max_length=16)


def _kind(value: object) -> str:
    """Return which form of a rule ``value`` means to be."""
    if not isinstance(value, Mapping):
        return "word"
    return "all" if "allOf" in value and "anyOf" not in value else "any"


RuleEntry = Annotated[
    Annotated[AnyOfEntry, Tag("any")]
    | Annotated[AllOfEntry, Tag("all")]
    | Annotated[Literal["accept", "reject"], Tag("word")],
    Discriminator(_kind),
]


class PolicyEntry(_Strict):
    """The whole file."""

    api_version: Literal["countersign/v1"] = Field(alias="apiVersion")
    default: Literal["reject"] = "reject"
    roots: dict[str, RootEntry] = {}
    scopes: dict[str, RuleEntry] = {}
    pinned: list[str] = []
    revoked: RevokedEntry = RevokedEntry()


def validate(document: Document) -> PolicyEntry:
    """Check the form of a parsed policy.

    Raises:
        PolicyInvalid: with every problem of form.
    """
    try:
        return PolicyEntry.model_validate(document.value)
    except ValidationError as err:
        found = dict.fromkeys(_problem(error, document.value) for error in err.errors(include_url=False))
        raise PolicyInvalid([document.problem(key, text) for key, text in found]) from err


def _either(loc: tuple[Any, ...]) -> str:
    """Return what may stand where pydantic tried one of several types, whose name ends the key; else nothing."""
    if loc[-2:-1] == ("trustedRoot",) and loc[-1] in {"str", "list[str]"}:
        return "the path of a trusted_root.json, or a list of them"
    if loc[2:4] == ("publicKey", "since") and loc[-1] in {"date", "str"}:
        return "the day since which the key is in use: 2026-11-01"
    return ""


def _problem(error: Any, value: Any) -> tuple[Key, str]:
    """Return the key of pydantic's error, and what is wrong in the file's own terms."""
    loc, kind, given = error["loc"], error["type"], error["input"]
    if loc[:1] == ("scopes",) and len(loc) > _SCOPE:
        loc = (*loc[:_SCOPE], *loc[_SCOPE + 1 :])  # pydantic names the tag of the rule's form
        if len(loc) <= _SCOPE + 1 and kind in {"missing", "extra_forbidden", "literal_error"}:
            return loc[:_SCOPE], f"got {shortened(value['scopes'][loc[1]])}; expected {_RULE}"
    if kind == "one_kind" or (loc[:1] == ("roots",) and len(loc) == _ROOT + 1 and kind == "extra_forbidden"):
        given = value["roots"][loc[1]]
        return loc[:_ROOT], f"got {', '.join(given) or 'nothing'}; expected one of publicKey, keyless, pki, notation"
    if loc[:2] == ("revoked", "certificates") and len(loc) > _ROOT + 1:
        loc = (*loc[: _ROOT + 1], *loc[_ROOT + 2 :])  # pydantic names the tag of the entry's form
    if one_of := _either(loc):
        return loc[:-1], f"got {shortened(given)}; expected {one_of}"
    if kind == "extra_forbidden":
        return loc, unknown.said(PolicyEntry, loc)
    if kind == "missing":
        return loc, "is missing"
    expected = error["ctx"]["expected"] if kind == "literal_error" else _EXPECTED.get(kind, error["msg"])
    return loc, f"got {shortened(given)}; expected {expected}"


def shortened(value: Any) -> str:
    """Return a value as a message shows it: short, and in YAML's words where Python's differ."""
    if value is None:
        return "nothing"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
