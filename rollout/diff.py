"""What a policy.yaml would change in the policy that is in force on a node."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from countersign.enforcement.policy import in_force, there

if TYPE_CHECKING:
    from rollout.places import Target

ADDED, REMOVED, CHANGED = "added", "removed", "changed"


@dataclass(frozen=True)
class Difference:
    """One thing that is in force and in policy.yaml not the same.

    Attributes:
        kind: added (policy.yaml has it, the node does not), removed, or changed.
        part: scope, root, pin, revoked key, …
        name: which one.
        found: as it is in force; empty where it is not.
        wanted: as policy.yaml has it; empty where it has it not.
    """

    kind: str
    part: str
    name: str
    found: str = ""
    wanted: str = ""

    def __str__(self) -> str:
        """Return a line for people."""
        sign = {ADDED: "+", REMOVED: "-", CHANGED: "~"}[self.kind]
        how = " → ".join(filter(None, (self.found, self.wanted)))
        return f"{sign} {self.part} {self.name}{f': {how}' if how else ''}"


@dataclass(frozen=True)
class Compared:
    """One node.

    Attributes:
        node: its name.
        serial: of the policy that lies there.
        hash: of the policy in force; empty for none.
        not_in_force: the file that lies there is another one than that in force, so that nothing can be compared.
        differences: what policy.yaml would change.
    """

    node: str
    serial: int
    hash: str
    not_in_force: bool
    differences: tuple[Difference, ...]

    @property
    def same(self) -> bool:
        """Whether the node decides by what policy.yaml says."""
        return not (self.not_in_force or self.differences)

    def as_json(self) -> dict[str, Any]:
        """Return it for ``--json``."""
        return {
            "node": self.node,
            "serial": self.serial,
            "policy": self.hash,
            "fileInForce": not self.not_in_force,
            "same": self.same,
            "differences": [asdict(each) for each in self.differences],
        }


def compare(target: Target) -> Compared:
    """Return what policy.yaml would change on a node.

    Raises:
        InfrastructureError: its gate does not answer.
    """
    node, policy = target.node, target.policy
    found, decides_by = there(node, policy.layout), in_force(node, policy.layout)
    wanted = json.loads(policy.rendered())
    differences = [*_differences(found.policy, wanted)]
    if target.engine is not None and target.engine.needed():
        differences.append(Difference(CHANGED, "file", target.engine.name))
    lies = f"sha256:{replace(policy, serial=found.serial).file().digest()}"
    not_in_force = not policy.differs_from(found.policy) and decides_by != lies
    return Compared(node.name, found.serial, decides_by, not_in_force, tuple(differences))


def _differences(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[Difference]:
    for part, key in (("root", "roots"), ("scope", "scopes")):
        yield from _named(part, there.get(key, {}), wanted[key])
    yield from _listed("pin", there.get("pinned", []), wanted["pinned"])
    for key in ("keys", "certificates", "digests"):
        yield from _listed(f"revoked {key[:-1]}", there.get("revoked", {}).get(key, []), wanted["revoked"][key])
    yield from _named(
        "revocation list", *(_lists(each.get("revoked", {}).get("lists", [])) for each in (there, wanted))
    )


def _named(part: str, there: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[Difference]:
    show = {"root": _root, "scope": _rule}.get(part, _list)
    for name in sorted({*there, *wanted}):
        if name not in there:
            yield Difference(ADDED, part, name, wanted=show(wanted[name]))
        elif name not in wanted:
            yield Difference(REMOVED, part, name, found=show(there[name]))
        elif there[name] != wanted[name]:
            yield Difference(CHANGED, part, name, show(there[name]), show(wanted[name]))


def _listed(part: str, there: Sequence[str], wanted: Sequence[str]) -> Iterator[Difference]:
    yield from (Difference(ADDED, part, name) for name in sorted({*wanted} - {*there}))
    yield from (Difference(REMOVED, part, name) for name in sorted({*there} - {*wanted}))


def _lists(lists: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return lists of what is revoked, as a rendered policy carries them, by the name in their documents."""
    return {json.loads(each["document"])["name"]: each for each in lists}


def _list(carried: Mapping[str, Any]) -> str:
    content = carried["document"].encode()
    return f"serial {json.loads(content)['serial']} (sha256:{sha256(content).hexdigest()})"


def _rule(rule: Mapping[str, Any]) -> str:
    return ", ".join(kind if roots is True else f"{kind} {' '.join(roots)}" for kind, roots in rule.items())


def _root(root: Mapping[str, Any]) -> str:
    """Return the fingerprints of a root's keys, with their days; another kind of root as it is written."""
    from countersign.keys.pair import parse_public

    keys = root.get("publicKey", {}).get("keys")
    if keys is None:
        return json.dumps(root, sort_keys=True)
    found = [parse_public(key.encode(), "roots").fingerprint for key in keys]
    since = root["publicKey"].get("since", {})
    return " ".join(f"{one} (since {since[one]})" if one in since else one for one in found)
