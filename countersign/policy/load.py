"""``policy.yaml`` → ``Policy``: the form, then everything that the form cannot say."""

from __future__ import annotations

import re
from pathlib import Path

from countersign.keys.pair import PublicKey, load_public
from countersign.keys.sealed import BadKey
from countersign.oci import digest as digests
from countersign.oci import reference
from countersign.policy import document, schema, scopes
from countersign.policy.document import Document
from countersign.policy.model import Policy, Root, Rule, Scope
from countersign.policy.problems import Key, PolicyInvalid, Problem, shown
from countersign.policy.schema import PolicyEntry, RuleEntry

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
        roots = {name: self._root(name, root.public_key.files) for name, root in entry.roots.items()}
        found = Policy(
            self._source.path,
            roots,
            self._scopes(entry),
            tuple(self._pin(pin, ("pinned", i)) for i, pin in enumerate(entry.pinned)),
            tuple(self._revoked_key(key, ("revoked", "keys", i)) for i, key in enumerate(entry.revoked.keys)),
            tuple(self._digest(text, ("revoked", "digests", i)) for i, text in enumerate(entry.revoked.digests)),
        )
        if self._problems:
            raise PolicyInvalid(sorted(self._problems, key=lambda problem: problem.line))
        return found

    def _root(self, name: str, files: list[str]) -> Root:
        if not _ROOT_NAME_RE.fullmatch(name):
            self._note(("roots", name), "is no name for a root; expected letters, digits, '.', '_' and '-'")
        key = ("roots", name, "publicKey", "files")
        keys = [self._key_file(file, (*key, i)) for i, file in enumerate(files)]
        return Root(name, tuple(one for one in keys if one is not None))

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
            scope = Scope(name, written, self._rule(rule_entry, key, entry), self._source.lines[key])
            if name in found:
                self._note(key, f"is the same as {found[name].written!r} on line {found[name].line}: both are {name}")
            found[name] = scope
        return found

    def _rule(self, entry: RuleEntry, key: Key, policy: PolicyEntry) -> Rule:
        if isinstance(entry, str):
            return Rule(entry)
        kind = entry.kind
        for i, name in enumerate(entry.roots):
            if name not in policy.roots:
                known = ", ".join(policy.roots) or "none, for there are no roots"
                self._note((*key, kind, i), f"unknown root {name!r}; expected one of {known}")
            elif name in entry.roots[:i]:
                self._note((*key, kind, i), f"names {name!r} twice")
        return Rule(kind, tuple(entry.roots))

    def _pin(self, text: str, key: Key) -> str:
        try:
            ref = reference.parse(text)
        except reference.BadReference as err:
            self._note(key, str(err))
            return text
        if ref.digest is None:
            self._note(key, f"{text!r} has no digest; expected {ref.name}@sha256:<64 hexadecimal digits>")
        return str(ref)

    def _revoked_key(self, text: str, key: Key) -> str:
        if text.startswith("sha256:"):
            return self._digest(text, key)
        public = self._key_file(text, key)
        return public.fingerprint if public else text

    def _digest(self, text: str, key: Key) -> str:
        if not digests.valid(text):
            self._note(key, f"got {text!r}; expected sha256:<64 lower-case hexadecimal digits>")
        return text

    def _note(self, key: Key, text: str) -> None:
        self._problems.append(self._source.problem(key, text))
