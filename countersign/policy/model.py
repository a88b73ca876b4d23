"""The policy as the program uses it: checked, normalised, keys read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Literal

from countersign.keys.pair import PublicKey

RuleKind = Literal["anyOf", "allOf", "accept", "reject"]


@dataclass(frozen=True)
class Attestation:
    """What a scope asks for beside signatures: a statement about the image.

    Attributes:
        type: its predicate type, exactly.
        by: roots, of which any one is enough.
        where: what has to be true of it, in CEL; empty for nothing.
        max_age: since its trusted time, in seconds; 0 for any.
    """

    type: str
    by: tuple[str, ...]
    where: str = ""
    max_age: int = 0

    def __str__(self) -> str:
        """Return "TYPE by a or b, at most 720h old, where …"."""
        age = f", at most {duration(self.max_age)} old" if self.max_age else ""
        where = f", where {' '.join(self.where.split())}" if self.where else ""
        return f"{self.type} by {' or '.join(self.by)}{age}{where}"


def duration(seconds: int) -> str:
    """Return "720h", "90m" or "45s", as the gate reads durations."""
    for unit, size in (("h", 3600), ("m", 60)):
        if not seconds % size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


@dataclass(frozen=True)
class Rule:
    """What a scope asks for.

    Attributes:
        roots: who signs; empty for accept and reject.
        formats: of signatures that count; empty for all.
        signature: the predicate type of attestations that may stand for a signature; empty for none.
        attestations: all of which the image must have beside.
    """

    kind: RuleKind
    roots: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    signature: str = ""
    attestations: tuple[Attestation, ...] = ()

    def __str__(self) -> str:
        """Return "anyOf: a, b" or "reject", and in brackets what else is asked."""
        text = f"{self.kind}: {', '.join(self.roots)}" if self.roots else self.kind
        more = [
            *([f"formats {', '.join(self.formats)}"] if self.formats else []),
            *([f"or an attestation of type {self.signature}"] if self.signature else []),
            *(f"with {each.type}" for each in self.attestations),
        ]
        return f"{text} ({'; '.join(more)})" if more else text


DEFAULT = Rule("reject")
"""What holds where no scope matches; no policy can change it."""


@dataclass(frozen=True)
class Keyless:
    """Certificates of a Sigstore, for one identity.

    Attributes:
        issuer: of the identity, a URL.
        subject: the certificate's name, or a glob (`countersign.policy.subjects`).
        claims: further claims of the certificate, by the policy's names.
        trusted_roots: ``trusted_root.json``, parsed; any of them may vouch.
        require: how many of ``sct``, ``log`` and ``time``, where it is not as each trusted root lists them.
    """

    issuer: str
    subject: str
    claims: Mapping[str, str]
    trusted_roots: tuple[Mapping[str, Any], ...]
    require: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Pki:
    """Certificates of one's own authorities, for one name.

    Attributes:
        kind, name: of the signer: ``email``, ``dns`` or ``uri``, and what it must be.
        roots, intermediates, timestamp_roots, crls: PEM, one text a file.
    """

    kind: str
    name: str
    roots: tuple[str, ...]
    intermediates: tuple[str, ...] = ()
    timestamp_roots: tuple[str, ...] = ()
    crls: tuple[str, ...] = ()


@dataclass(frozen=True)
class Notation:
    """Certificates as the Notary Project has them, at its level "strict".

    Attributes:
        identities: ``x509.subject: …``, of which the signer's certificate must have one (`identities`).
        roots, signing_authorities, timestamp_roots: trust stores ca, signingAuthority, tsa; PEM, one text a file.
        crls: PEM, one text a file.
    """

    identities: tuple[str, ...]
    roots: tuple[str, ...] = ()
    signing_authorities: tuple[str, ...] = ()
    timestamp_roots: tuple[str, ...] = ()
    crls: tuple[str, ...] = ()


@dataclass(frozen=True)
class Root:
    """A root of trust: a signature by any of the keys is good, or one by whom the certificates are for."""

    name: str
    keys: tuple[PublicKey, ...] = ()
    certificates: Keyless | Pki | Notation | None = None
    since: Mapping[str, date] = field(default_factory=dict)  # fingerprint of a key → since when it is in use

    @property
    def identity(self) -> str:
        """Whom the root trusts, in words; empty for keys."""
        match self.certificates:
            case Keyless(issuer=issuer, subject=subject, claims=claims):
                more = "".join(f", {name} {value}" for name, value in sorted(claims.items()))
                return f"keyless {subject} (issuer {issuer}{more})"
            case Pki(kind=kind, name=name):
                return f"pki {kind} {name}"
            case Notation(identities=identities):
                return f"notation {' or '.join(identities)}"
        return ""


@dataclass(frozen=True)
class Scope:
    """A scope in normal form, as it was written, its rule, and its line in the file."""

    name: str
    written: str
    rule: Rule
    line: int


@dataclass(frozen=True)
class Revocations:
    """A list of what is trusted no more, which several policies include; it is signed, and its serial only grows.

    Attributes:
        name, serial, issued: as it says; the day.
        signers: public keys, PEM, of which one has to have signed it.
        text, signatures: as nodes get them, which verify it by themselves; the signatures in base64.
        keys, digests, certificates: as a policy's.
    """

    path: Path
    name: str
    serial: int
    issued: str
    signers: tuple[str, ...]
    text: str
    signatures: tuple[str, ...]
    keys: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()
    certificates: tuple[str | tuple[str, str], ...] = ()

    def __str__(self) -> str:
        """Return "acme: serial 7 of 2026-11-29, 3 entries"."""
        count = len(self.keys) + len(self.digests) + len(self.certificates)
        return f"{self.name}: serial {self.serial} of {self.issued}, {count} {'entry' if count == 1 else 'entries'}"


@dataclass(frozen=True)
class Policy:
    """A whole policy.

    Attributes:
        roots: by name.
        scopes: by normal form.
        pinned: "registry/path@sha256:…", normalised.
        revoked_keys: fingerprints, those of the lists among them.
        revoked_digests: digests of images, the same.
        revoked_certificates: fingerprints, or (issuer, serial number in lower-case hexadecimal digits), the same.
    """

    path: Path
    roots: Mapping[str, Root]
    scopes: Mapping[str, Scope]
    pinned: tuple[str, ...] = ()
    revoked_keys: tuple[str, ...] = ()
    revoked_digests: tuple[str, ...] = ()
    revoked_certificates: tuple[str | tuple[str, str], ...] = ()
    lists: tuple[Revocations, ...] = ()
