"""The nodes that a policy goes to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from countersign.console.errors import UsageError
from countersign.enforcement import record
from countersign.enforcement.policy import Policy
from countersign.nodes.each import side_by_side

if TYPE_CHECKING:
    from countersign.console.config import Settings
    from countersign.console.steps import Step
    from countersign.nodes.node import Node
    from countersign.runtimes.place import Place


@dataclass(frozen=True)
class Target:
    """One node.

    Attributes:
        node: where.
        policy: the policy as the node is to have it, without a serial yet.
        laid: this machine's record of what set-up put there.
        engine: gives the runtime's own engine its part of the policy; None where it has no such engine.
    """

    node: Node
    policy: Policy
    laid: Path
    engine: Step | None = None


def targets(settings: Settings, source: Path) -> list[Target]:
    """Return every node of the configured places (their names have commas between them), for a policy.yaml.

    Raises:
        InfrastructureError: a place cannot be reached, or was never set up.
        UsageError: there is no such place or runtime.
    """
    opener(settings)
    names = [name.strip() for name in settings.node.split(",") if name.strip()] or [settings.node]
    each = [replace(settings, node=name) for name in dict.fromkeys(names)]
    return [target for found in side_by_side(lambda one: list(_of(one, source)), each) for target in found]


def opener(settings: Settings) -> Callable[[Settings], Place]:
    """Return what opens the places of the runtime that was named.

    Raises:
        UsageError: there is no such runtime.
    """
    if settings.room not in RUNTIMES:
        raise UsageError(f"got {settings.room!r}", where="--runtime", expected=" or ".join(RUNTIMES))
    return RUNTIMES[settings.room]


def _of(settings: Settings, source: Path) -> Iterator[Target]:
    for each in RUNTIMES[settings.room](settings).members():
        policy = Policy(each.node, each.layout, source, tuple(each.pinned()))
        yield Target(each.node, policy, record.beside(each.pins), next(iter(each.own_policy(policy)), None))


def _containerd(settings: Settings) -> Place:
    from containerd.backend import open_place

    return open_place(settings)


def _crio(settings: Settings) -> Place:
    from crio.backend import open_place

    return open_place(settings)


RUNTIMES: Mapping[str, Callable[[Settings], Place]] = {"containerd": _containerd, "crio": _crio}
"""The family: a runtime's name → what opens the places where it is."""
