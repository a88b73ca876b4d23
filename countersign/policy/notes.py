"""What is valid in a policy and hardly meant: scopes that no image's name falls under, and rules without an effect."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from countersign.oci import reference
from countersign.policy import crio, kyverno, size
from countersign.policy.model import Keyless, Pki, Policy, Root
from countersign.policy.part import part
from countersign.policy.scopes import parents

_HUB_ADDRESSES = frozenset(
    {"registry-1.docker.io", "registry.docker.io", "index.docker.com", "registry.hub.docker.com", "hub.docker.com"}
)
_MAX_PORT = 65535
_MAX_HOST, _MAX_LABEL = 253, 63  # RFC 1035, section 2.3.4


def notes(policy: Policy) -> list[str]:
    """Return what ``policy.check`` and set-up warn about, each with the key in the file."""
    return [
        *_of_scopes(policy),
        *_of_attestations(policy),
        *_left(policy),
        *_of_roots(policy),
        *_of_pins(policy),
        *_of_revocations(policy),
        *filter(None, [size.note(policy)]),
    ]


def _left(policy: Policy) -> Iterator[str]:
    """Yield what other engines leave to the gate: once where they leave the same."""
    lines: dict[str, list[str]] = {}
    for engine in (crio.ENGINE, kyverno.VALIDATING):
        for line in part(policy, engine)[1]:
            lines.setdefault(line, []).append(engine.name)
    for line, engines in lines.items():
        yield f"{line}; {' and '.join(engines)} {'let' if len(engines) > 1 else 'lets'} it pass"


def _of_scopes(policy: Policy) -> Iterator[str]:
    for name, scope in policy.scopes.items():
        if why := _never(name):
            yield f"scopes.{scope.written}: {why}"
        above = next((policy.scopes[each] for each in [*parents(name)][1:] if each in policy.scopes), None)
        if above and above.rule == scope.rule:
            yield f"scopes.{scope.written}: {above.written} says the same, so it changes nothing"


def _of_attestations(policy: Policy) -> Iterator[str]:
    for scope in policy.scopes.values():
        for number, asked in enumerate(scope.rule.attestations):
            timeless = [name for name in asked.by if not _tells_time(policy.roots[name])]
            if asked.max_age and timeless:
                where, who = f"scopes.{scope.written}.attestations[{number}]", ", ".join(timeless)
                yield f"{where}: nothing proves when {who} has signed, so with maxAge that is refused (NO_TRUSTED_TIME)"


def _tells_time(root: Root) -> bool:
    """Return whether a signature of a root can have a time that somebody vouches for."""
    match root.certificates:
        case Keyless(require=require):
            return require.get("time", 1) > 0
        case Pki(timestamp_roots=timestamps):
            return bool(timestamps)
    return False


def _never(name: str) -> str:
    """Return why images will not be named as this scope or pin has it; empty if they may be."""
    host, slash, path = name.partition("/")
    address, colon, digits = host.partition(":") if not host.startswith("[") else host.rpartition("]:")
    address, port = (f"{address}]", digits) if colon == "]:" else (address or host, digits if colon == ":" else "")
    long = len(address) > _MAX_HOST or any(len(label) > _MAX_LABEL for label in address.split("."))
    reasons = {
        f"images of Docker Hub are named {reference.DEFAULT_DOMAIN}{slash}{path}, whatever serves them": address
        in _HUB_ADDRESSES,
        "names are compared as they are written, and hosts are written in lower case:"
        f" {host.lower()}{slash}{path}": host != host.lower(),
        f"no registry has port {port}": bool(port) and not 0 < int(port[:9]) <= _MAX_PORT,
        f"ports are written without zeros before them: {address}:{port.lstrip('0')}{slash}{path}": port[:1] == "0",
        f"images are named without the usual port: {address}{slash}{path}": port == "443",
        f"no host has so long a name ({_MAX_HOST} characters, {_MAX_LABEL} between two dots)": long,
    }
    return next((why for why, so in reasons.items() if so), "")


def _of_roots(policy: Policy) -> Iterator[str]:
    rules = [scope.rule for scope in policy.scopes.values()]
    named = {name for rule in rules for name in (*rule.roots, *(by for each in rule.attestations for by in each.by))}
    for name, root in policy.roots.items():
        if name not in named:
            yield f"roots.{name}: no scope names it"
        if root.keys and all(key.fingerprint in policy.revoked_keys for key in root.keys):
            yield f"roots.{name}: all its keys are revoked, so it allows nothing"
        for fingerprint in _twice(key.fingerprint for key in root.keys):
            yield f"roots.{name}: the key {fingerprint} is a duplicate"


def _of_pins(policy: Policy) -> Iterator[str]:
    for pin in dict.fromkeys(policy.pinned):
        repository, _, digest = pin.partition("@")
        if digest in policy.revoked_digests:
            yield f"pinned: {pin} is revoked as well, so it is refused"
        if why := _never(repository):
            yield f"pinned: {pin}: {why}"
    for pin in _twice(policy.pinned):
        yield f"pinned: {pin} is a duplicate"


def _of_revocations(policy: Policy) -> Iterator[str]:
    known = {key.fingerprint for root in policy.roots.values() for key in root.keys}
    shared = {fingerprint for each in policy.lists for fingerprint in each.keys}  # other policies know those
    for fingerprint in dict.fromkeys(policy.revoked_keys):
        if fingerprint not in known | shared:
            yield f"revoked.keys: {fingerprint} is the key of no root, so revoking it changes nothing"
    for each in _twice((*policy.revoked_keys, *policy.revoked_digests)):
        yield f"revoked: {each} is a duplicate"


def _twice(values: Iterable[str]) -> list[str]:
    return [value for value, count in Counter(values).items() if count > 1]
