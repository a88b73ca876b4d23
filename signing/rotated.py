"""The policy's part of a rotation: the new key comes in beside the old one, and in a later run the old one goes.

Between the two, nodes get the policy with both and builds begin to sign with the new key, so no start is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

from countersign.keys.pair import PublicKey
from countersign.policy import amend
from countersign.policy.load import load
from countersign.policy.model import Policy
from signing import amended

Stage = Literal["add", "remove", "none"]


@dataclass(frozen=True)
class Turn:
    """What a run has to do to a policy.

    Attributes:
        stage: "add": a root has the old key without the new one; "remove": each that has the old one has both; "none":
            there is no such root, or no policy.
    """

    path: Path
    stage: Stage
    before: str
    old: PublicKey
    new: PublicKey

    def is_old(self, file: str) -> bool:
        """Say whether a file that the policy names is the old key's."""
        return amended.is_key(self.path, file, self.old)

    def is_new(self, file: str) -> bool:
        """Say whether a file that the policy names is the new key's."""
        return amended.is_key(self.path, file, self.new)


def read(path: Path, old: PublicKey, new: PublicKey) -> Turn:
    """Return what a run has to do to a policy.

    Raises:
        PolicyInvalid: a root has the old key, and the policy is not valid.
    """
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    turn = Turn(path, "none", before, old, new)
    try:
        if not amend.lists(before, turn.is_old):
            return turn
    except yaml.YAMLError:
        pass  # load() says where
    load(path)
    alone = amend.beside(before, turn.is_old, turn.is_new, "new") != before
    return Turn(path, "add" if alone else "remove", before, old, new)


def add(turn: Turn, option: str, *, plan: bool) -> list[str]:
    """Put the new key beside the old one; return the policy's difference.

    Args:
        option: where the new private key is kept, as the user named it.
    """
    with amended.key_file(turn.path, option, turn.new, keep=not plan) as file:
        after = amend.beside(turn.before, turn.is_old, turn.is_new, file, amended.today())
        (amended.check if plan else amended.replace)(turn.path, after)
    return amended.difference(turn.path, turn.before, after)


def remove(turn: Turn, *, plan: bool) -> list[str]:
    """Take the old key out; return the policy's difference."""
    after = amend.without(turn.before, turn.is_old, str(turn.path))
    (amended.check if plan else amended.replace)(turn.path, after)
    return amended.difference(turn.path, turn.before, after)


def needed(policy: Policy, old: PublicKey, repositories: frozenset[str], registries: frozenset[str]) -> list[str]:
    """Return why the old key cannot go yet, though nothing is left of what was looked at; none if it can.

    Args:
        repositories, registries: what was looked at as a whole.
    """
    roots = {
        name for name, root in policy.roots.items() if any(key.fingerprint == old.fingerprint for key in root.keys)
    }
    why = []
    for name, scope in policy.scopes.items():
        rule = scope.rule
        if roots & set(rule.roots) and name not in repositories and name.partition("/")[0] not in registries:
            why.append(f"{scope.written} trusts it and was not looked at as a whole")
        by = {root for each in rule.attestations for root in each.by} | set(rule.roots if rule.signature else ())
        if roots & by:
            why.append(f"{scope.written} asks for attestations by it, which are not made again here")
    return why
