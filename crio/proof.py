"""The proof on a CRI-O: its own engine has to refuse at pull, and the gate at start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from countersign.enforcement import doctor, proof

if TYPE_CHECKING:
    from countersign.enforcement.proof import Proof
    from crio.machine import Machine


def prove(machine: Machine, image: str = "") -> Proof:
    """Refuse to call it done while anything could run unseen; ``image`` is one that the policy has to allow.

    Raises:
        NotEnforced: with everything found.
        InfrastructureError: it could not be tried.
    """
    doctor.examine(machine.node, machine.layout, machine.paths.socket)
    return tried(machine, image)


def tried(machine: Machine, image: str = "") -> Proof:
    """Have the node prove itself; see `countersign.enforcement.proof.prove`."""
    paths = machine.paths
    more = ["--crio-socket", paths.socket, "--crio-certs", paths.certs, "--cgroup-parent", machine.cgroup_parent]
    return proof.prove(machine, *more, image=image)
