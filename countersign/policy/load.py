"""``policy.yaml`` → ``Policy``: the form, then everything that the form cannot say."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from countersign.keys.pair import PublicKey, load_public
from countersign.keys.sealed import BadKey
from countersign.oci import digest as digests
from countersign.oci import reference
from countersign.policy import (
    attestations,
    canary,
    certificates,
    document,
    identities,
    revocations,
    schema,
    scopes,
    subjects,
)
from countersign.policy.document import Document
from countersign.policy.model import Attestation, Keyless, Notation, Pki, Policy, Revocations, Root, Rule, Scope
from countersign.policy.problems import Key, PolicyInvalid, Problem, shown
from countersign.policy.schema import (
    AttestationEntry,
    IssuedEntry,
    KeylessEntry,
    ListEntry,
    NotationEntry,
    PkiEntry,
    PolicyEntry,
    RootEntry,
    RuleEntry,
    shortened,
)

T = TypeVar("T")
_ISSUER_RE = re.compile(r"https?://[^*\s]+")
_ROOT_NAME_RE = re.compile(r"[A-Za-z0-9._-]{1,128}")


def load(path: Path) -> Policy:
    """Read and check a policy and the keys that it names; their paths count from its folder.

    Raises:
        PolicyInvalid: with all problems of form, or else with all others.
    """
    source = document.read(path)
    return _Reader(source).policy(schema.validate(source))


class _Reader:
    """Turns the entries of one file into a policy, collecting what is wrong."""

    def __init__(self, source: Document) -> None:
        self._source = source
        self._problems: list[Problem] = []

    def policy(self, entry: PolicyEntry) -> Policy:
        roots = {name: self._root(name, root) for name, root in entry.roots.items()}
        found = Policy(
            self._source.path,
            roots,
            self._scopes(entry),
            tuple(self._pin(pin, ("pinned", i)) for i, pin in enumerate(entry.pinned)),
            tuple(self._revoked_key(key, ("revoked", "keys", i)) for i, key in enumerate(entry.revoked.keys)),
            tuple(self._digest(text, ("revoked", "digests", i)) for i, text in enumerate(entry.revoked.digests)),
            tuple(
                self._revoked_certificate(one, ("revoked", "certificates", i))
                for i, one in enumerate(entry.revoked.certificates)
            ),
        )
        lists = self._lists(entry.revoked.lists)
        if self._problems:
            raise PolicyInvalid(sorted(self._problems, key=lambda problem: problem.line))
        return revocations.included(found, lists)

    def _root(self, name: str, entry: RootEntry) -> Root:
        if not _ROOT_NAME_RE.fullmatch(name):
            self._note(("roots", name), "is not a name for a root; expected letters, digits, '.', '_' and '-'")
        if name == canary.ROOT:
            self._note(("roots", name), "is reserved for the canary of countersign-gate prove; give it another name")
        if entry.keyless:
            return Root(name, certificates=self._keyless(entry.keyless, ("roots", name, "keyless")))
        if entry.pki:
            return Root(name, certificates=self._pki(entry.pki, ("roots", name, "pki")))
        if entry.notation:
            return Root(name, certificates=self._notation(entry.notation, ("roots", name, "notation")))
        files = entry.public_key.files if entry.public_key else []
        key = ("roots", name, "publicKey", "files")
        keys = [self._key_file(file, (*key, i)) for i, file in enumerate(files)]
        known = {file: one.fingerprint for file, one in zip(files, keys, strict=True) if one is not None}
        since = self._since(entry.public_key.since if entry.public_key else {}, files, known, key[:-1])
        return Root(name, tuple(one for one in keys if one is not None), since=since)

    def _since(
        self, entry: Mapping[str, date | str], files: Sequence[str], known: Mapping[str, str], key: Key
    ) -> dict[str, date]:
        """Return fingerprint → since when the key is in use."""
        found: dict[str, date] = {}
        for file, written in entry.items():
            where = (*key, "since", file)
            if file not in files:
                self._note(where, f"{file!r} is not among the root's files; expected one of {', '.join(files)}")
                continue
            try:
                day = date.fromisoformat(str(written)) if type(written) is not datetime else None
            except ValueError:
                day = None
            if day is None or day > date.today():  # noqa: DTZ011  a day where the policy is written
                self._note(where, f"got {str(written)!r}; expected the day since which the key is in use: 2026-11-01")
            elif file in known:
                found[known[file]] = day
        return found

    def _keyless(self, entry: KeylessEntry, key: Key) -> Keyless:
        if why := subjects.wrong(entry.subject):
            expected = "a name, or a URI with host and owner (an e-mail address with its domain) written out"
            self._note((*key, "subject"), f"{entry.subject!r} {why}; expected {expected}, and '*' or '**' in the rest")
        if not _ISSUER_RE.fullmatch(entry.issuer):
            self._note((*key, "issuer"), f"got {entry.issuer!r}; expected the issuer's whole URL, without a wildcard")
        for name, value in entry.claims.items():
            if name not in subjects.CLAIMS or not value:
                self._note((*key, "claims", name), f"got {value!r}; expected one of {', '.join(subjects.CLAIMS)}")
        files = [entry.trusted_root] if isinstance(entry.trusted_root, str) else entry.trusted_root
        if not files:
            self._note((*key, "trustedRoot"), "got an empty list; expected at least one trusted_root.json")
        require = entry.require.model_dump(exclude_none=True) if entry.require else {}
        found = [self._file(file, (*key, "trustedRoot"), certificates.trusted_root) for file in files]
        known = tuple(one for one in found if one is not None)
        for file, one in zip(files, found, strict=True):
            for what, there in certificates.listed(one).items() if one is not None else ():
                asked = require.get(what, 1 if what == "time" else 0)
                if asked > there:
                    expected = f"a smaller require.{what}, or another trusted root"
                    self._note(
                        (*key, "trustedRoot"), f"{file} lists {there} of {asked} for {what}; expected {expected}"
                    )
        return Keyless(entry.issuer, entry.subject, entry.claims, known, require)

    def _pki(self, entry: PkiEntry, key: Key) -> Pki:
        names = {kind: name for kind in ("email", "dns", "uri") if (name := getattr(entry, kind))}
        kind, name = next(iter(names.items()), ("", ""))
        if len(names) != 1 or re.search(r"[*\s]", name):
            self._note(
                key, f"got {', '.join(names) or 'no name'} {name!r}; expected one of email, dns, uri, written out"
            )
        lists = {
            field: tuple(one for file in files if (one := self._file(file, (*key, field), read)) is not None)
            for field, files, read in (
                ("roots", entry.roots, certificates.authorities),
                ("intermediates", entry.intermediates, certificates.authorities),
                ("timestampRoots", entry.timestamp_roots, partial(certificates.authorities, timestamps=True)),
                ("crls", entry.crls, certificates.crl),
            )
        }
        return Pki(kind, name, lists["roots"], lists["intermediates"], lists["timestampRoots"], lists["crls"])

    def _notation(self, entry: NotationEntry, key: Key) -> Notation:
        if not entry.roots and not entry.signing_authorities:
            self._note((*key, "roots"), "is missing; expected at least one certificate of an authority")
        for i, identity in enumerate(entry.identities):
            if why := identities.wrong(identity):
                expected = f'"{identities.PREFIX} C=…, O=…, CN=…", as in RFC 4514, with at least C and O'
                self._note((*key, "identities", i), f"{identity!r} {why}; expected {expected}")
            elif any(identities.overlap(identity, other) for other in entry.identities[:i]):
                self._note((*key, "identities", i), f"{identity!r} and one before it overlap; leave one out")
        stores = [
            tuple(one for file in files if (one := self._file(file, (*key, field), read)) is not None)
            for field, files, read in (
                ("roots", entry.roots, certificates.anchors),
                ("signingAuthorities", entry.signing_authorities, certificates.anchors),
                ("timestampRoots", entry.timestamp_roots, certificates.anchors),
                ("crls", entry.crls, certificates.whole_crl),
            )
        ]
        return Notation(tuple(entry.identities), *stores)

    def _file(self, file: str, key: Key, read: Callable[[Path], T]) -> T | None:
        """Return what ``read`` makes of a file beside the policy; what is wrong with it is noted."""
        try:
            return read(self._source.path.parent / file)
        except certificates.BadFile as err:
            self._note(key, str(err))
            return None

    def _key_file(self, file: str, key: Key) -> PublicKey | None:
        path = self._source.path.parent / file
        try:
            return load_public(path)
        except BadKey as err:
            do = "" if path.exists() else " (signing.keys makes one)"
            expected = f"; expected {err.expected}" if err.expected else ""
            self._note(key, f"{shown(path)}: {err.found}{expected}{do}")
            return None

    def _scopes(self, entry: PolicyEntry) -> dict[str, Scope]:
        found: dict[str, Scope] = {}
        for written, rule_entry in entry.scopes.items():
            key = ("scopes", written)
            try:
                name = scopes.normalise(written)
            except scopes.BadScope as err:
                self._note(key, str(err))
                continue
            if canary.reserved(name):
                self._note(key, f"{canary.REGISTRY} is reserved for the canary of countersign-gate prove; leave it out")
            scope = Scope(name, written, self._rule(rule_entry, key, entry), self._source.lines[key])
            if name in found:
                self._note(key, f"is the same as {found[name].written!r} on line {found[name].line}: both are {name}")
            found[name] = scope
        return found

    def _rule(self, entry: RuleEntry, key: Key, policy: PolicyEntry) -> Rule:
        if isinstance(entry, str):
            return Rule(entry)
        self._names(entry.roots, (*key, entry.kind), policy)
        formats, signature = tuple(entry.formats or ()), entry.signature or ""
        for i, name in enumerate(formats):
            if name in formats[:i]:
                self._note((*key, "formats", i), f"{name!r} is a duplicate")
        if entry.signature is not None:
            self._type(signature, (*key, "signature"))
        asked = tuple(
            self._attestation(one, (*key, "attestations", i), policy) for i, one in enumerate(entry.attestations)
        )
        return Rule(entry.kind, tuple(entry.roots), formats, signature, asked)

    def _names(self, names: Sequence[str], key: Key, policy: PolicyEntry) -> None:
        for i, name in enumerate(names):
            if name not in policy.roots:
                known = ", ".join(policy.roots) or "none, for there are no roots"
                self._note((*key, i), f"unknown root {name!r}; expected one of {known}")
            elif name in names[:i]:
                self._note((*key, i), f"{name!r} is a duplicate")

    def _type(self, text: str, key: Key) -> None:
        if why := attestations.wrong_type(text):
            self._note(key, f"got {shortened(text)}; {why}")

    def _attestation(self, entry: AttestationEntry, key: Key, policy: PolicyEntry) -> Attestation:
        self._type(entry.type, (*key, "type"))
        self._names(entry.by, (*key, "by"), policy)
        for i, name in enumerate(entry.by):
            if name in policy.roots and policy.roots[name].notation:
                expected = "a root publicKey, keyless or pki"
                self._note(
                    (*key, "by", i), f"{name!r} is of the Notary Project, which attests nothing; expected {expected}"
                )
        if entry.where is not None and not entry.where.strip():
            self._note((*key, "where"), "is empty; expected an expression in CEL, or leave it out")
        age = 0
        if entry.max_age is not None:
            try:
                age = attestations.seconds(entry.max_age)
            except ValueError as err:
                self._note((*key, "maxAge"), f"got {shortened(entry.max_age)}; {err}")
        return Attestation(entry.type, tuple(entry.by), entry.where or "", age)

    def _pin(self, text: str, key: Key) -> str:
        try:
            ref = reference.parse(text)
        except reference.BadReference as err:
            self._note(key, str(err))
            return text
        if canary.reserved(ref.name):
            self._note(key, f"{canary.REGISTRY} is reserved for the canary of countersign-gate prove; leave it out")
        if ref.digest is None:
            self._note(key, f"{text!r} has no digest; expected {ref.name}@sha256:<64 hexadecimal digits>")
        return str(ref)

    def _revoked_key(self, text: str, key: Key) -> str:
        if text.startswith("sha256:"):
            return self._digest(text, key)
        public = self._key_file(text, key)
        return public.fingerprint if public else text

    def _revoked_certificate(self, entry: str | IssuedEntry, key: Key) -> str | tuple[str, str]:
        if not isinstance(entry, str):
            return entry.issuer, format(int(entry.serial.replace(":", ""), 16), "x")
        if entry.startswith("sha256:"):
            return self._digest(entry, key)
        return self._file(entry, key, certificates.fingerprint) or entry

    def _lists(self, entries: Sequence[ListEntry]) -> list[Revocations]:
        found: list[Revocations] = []
        for i, entry in enumerate(entries):
            key = ("revoked", "lists", i)
            signers = [self._key_file(file, (*key, "keys", j)) for j, file in enumerate(entry.keys)]
            known = [signer for signer in signers if signer is not None]
            one = self._file(entry.file, (*key, "file"), partial(revocations.read, signers=known)) if known else None
            if one and one.name in (other.name for other in found):
                self._note((*key, "file"), f"{entry.file}: the list {one.name!r} is a duplicate")
            elif one:
                found.append(one)
        return found

    def _digest(self, text: str, key: Key) -> str:
        if not digests.valid(text):
            self._note(key, f"got {text!r}; expected sha256:<64 lower-case hexadecimal digits>")
        return text

    def _note(self, key: Key, text: str) -> None:
        self._problems.append(self._source.problem(key, text))
