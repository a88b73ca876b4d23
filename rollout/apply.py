"""A changed policy to all nodes of a place: checked on each of them first, then put in force on each."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from countersign.console.errors import InfrastructureError
from countersign.enforcement import installing, record
from countersign.enforcement.policy import in_force, there
from countersign.nodes.each import side_by_side

if TYPE_CHECKING:
    from countersign.keys.pair import PrivateKey
    from rollout.places import Target

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Applied:
    """What came of one node.

    Attributes:
        node: its name.
        changed: it has another policy now, or would have (in a plan).
        serial: of its policy, or of that which it would have.
        hash: ``sha256:<hex>`` of the rendered policy.
        seconds: from the start of its change until the gate decided by it.
    """

    node: str
    changed: bool
    serial: int
    hash: str
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """Return it for ``--json``."""
        return {**asdict(self), "seconds": round(self.seconds, 3)}


@dataclass(frozen=True)
class _Seen:
    """A node before the change; ``highest`` is the highest serial that it knows."""

    target: Target
    changed: bool
    serial: int
    hash: str
    highest: int


def apply(targets: Sequence[Target], key: PrivateKey | None, *, plan: bool) -> list[Applied]:
    """Put the policy in force on every node that decides by another one.

    All that change get one serial: the highest that any of them knows, and one more.

    Args:
        targets: the nodes.
        key: signs the policy, for nodes whose gate.json has ``policyKeys``.
        plan: only check, on the nodes.

    Raises:
        InfrastructureError: a node does not take it (then no node was changed), or could not be given it; the text
            names those.
    """
    seen = side_by_side(_look, targets)
    serial = max((each.highest for each in seen), default=0) + 1
    changing = [
        replace(each.target, policy=replace(each.target.policy, serial=serial)) for each in seen if each.changed
    ]
    _everywhere("check", changing, lambda target: _checked(target, key))
    done = _everywhere("change", changing, lambda target: _changed(target, key, plan=plan))
    by_name = {each.node: each for each in done}
    names = [(each.target.node.name, each) for each in seen]
    return [by_name.get(name) or Applied(name, False, each.serial, each.hash, 0.0) for name, each in names]


def _look(target: Target) -> _Seen:
    node, policy = target.node, target.policy
    found, decides_by = there(node, policy.layout), in_force(node, policy.layout)
    changed = (
        policy.differs_from(found.policy)
        or decides_by != f"sha256:{replace(policy, serial=found.serial).file().digest()}"
        or (target.engine is not None and target.engine.needed())
    )
    return _Seen(target, changed, found.serial, decides_by, found.highest)


def _signature(target: Target, key: PrivateKey | None) -> bytes:
    from base64 import b64encode

    return b64encode(key.sign(target.policy.rendered())) if key else b""


def _checked(target: Target, key: PrivateKey | None) -> None:
    installing.check(target.policy, _signature(target, key))


def _changed(target: Target, key: PrivateKey | None, *, plan: bool) -> Applied:
    start = time.monotonic()
    node, policy = target.node, target.policy
    if not plan:
        if target.engine is not None and target.engine.needed():
            target.engine.apply()
            record.amend(target.laid, node.name, [target.engine])
        installing.install(policy, target.laid, _signature(target, key))
    digest = f"sha256:{policy.file().digest()}"
    return Applied(node.name, True, policy.serial, digest, time.monotonic() - start)


def _everywhere(what: str, targets: Sequence[Target], work: Callable[[Target], Answer]) -> list[Answer]:
    """Return what ``work`` returns for each node; one that fails stops no other.

    Raises:
        InfrastructureError: with every node that failed, and why.
    """

    def tried(target: Target) -> Answer | InfrastructureError:
        try:
            return work(target)
        except InfrastructureError as error:
            return error

    answers = side_by_side(tried, targets)
    failed = {t.node.name: a for t, a in zip(targets, answers, strict=True) if isinstance(a, InfrastructureError)}
    if failed:
        first = next(iter(failed.values()))
        others = "no node was changed" if what == "check" else f"{len(targets) - len(failed)} nodes have it"
        raise InfrastructureError(
            f"{'; '.join(f'{name}: {error.found}' for name, error in failed.items())} ({others})",
            where=", ".join(failed),
            do=first.do,
        )
    return [answer for answer in answers if not isinstance(answer, InfrastructureError)]
