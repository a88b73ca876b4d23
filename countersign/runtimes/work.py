"""All that one node is given, and the steps that bring it there: the same, in the same order, for every runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from countersign.enforcement import gate, policy_keys, reach
from countersign.enforcement.node_units import kubelet_runs
from countersign.enforcement.policy import Policy
from countersign.runtimes.machine import Machine

if TYPE_CHECKING:
    from countersign.console.config import Settings
    from countersign.console.steps import Step
    from countersign.keys.pair import PrivateKey
    from countersign.runtimes.systemd import SystemdMachine

MachineT = TypeVar("MachineT", bound=Machine)
TOOLS = ("countersign-gate", "countersign-hook")


@dataclass(frozen=True)
class Work(Generic[MachineT]):
    """All that one node is given.

    Attributes:
        machine: the node, looked at.
        gate: the gate's parts.
        policy: the user's policy.yaml.
        pins: what the node itself needs, by digest.
        keys_to_come: an earlier step makes the keys that the policy names.
        key: opens the key that signs the policy; None for nobody.
    """

    machine: MachineT
    gate: gate.Gate = field(repr=False)
    policy: Path
    pins: tuple[str, ...]
    keys_to_come: bool = False
    key: Callable[[], PrivateKey] | None = None

    def policy_step(self) -> Policy:
        """Return the step that brings the policy, in the gate's form."""
        machine = self.machine
        coming = self.keys_to_come
        return Policy(machine.node, machine.layout, self.policy, self.pins, keys_to_come=coming, key=self.key)

    def policies(self) -> list[Step]:
        """Return the steps that bring the policy, to the gate and to the runtime's own engine."""
        return [self.policy_step(), *self.own_policy()]

    def own_policy(self) -> list[Step]:
        """See `Machine.own_policy`."""
        return self.machine.own_policy(self.policy_step())


def work(
    settings: Settings,
    machine: MachineT,
    pins: Sequence[str],
    programs: Mapping[str, Path],
    *,
    keys_to_come: bool = False,
) -> Work[MachineT]:
    """Return what a node is given.

    Args:
        settings: the user's.
        machine: the node, looked at.
        pins: what it needs itself.
        programs: gate and hook.
        keys_to_come: an earlier step makes the keys that the policy names.
    """
    signed_by = policy_keys.signing(settings)
    parts = gate.Gate(
        node=machine.node,
        layout=machine.layout,
        program=programs["countersign-gate"],
        hook=programs["countersign-hook"],
        docker_config=reach.docker_config(settings.registry.docker_config, machine.addition.logins),
        policy_keys=signed_by.keys if signed_by else (),
        providers=gate.providers(settings.registry),
        **machine.gate_options(),
    )
    return Work(machine, parts, settings.policy, tuple(pins), keys_to_come, signed_by.key if signed_by else None)


def steps(given: Work[SystemdMachine]) -> list[Step]:
    """Return the steps for a node with systemd, in order; nothing restarts before all that it reads is there."""
    machine = given.machine
    return [
        *gate.steps(given.gate),
        *machine.way(),
        *given.policies(),
        machine.gate_unit(),
        *machine.configured(gate.written(given.gate)),
        kubelet_runs(machine.node),
    ]


def remembered(given: Work[Any]) -> list[Step]:
    """Return what set-up put on a node that has to stay as it is (`countersign.enforcement.record`)."""
    machine = given.machine
    return [
        *gate.steps(given.gate),
        given.policy_step().as_laid(),
        *given.own_policy(),
        *machine.remembered(gate.written(given.gate)),
    ]
