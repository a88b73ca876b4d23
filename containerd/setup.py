"""Set-up of the private containerd: everything is checked and made ready first, then the steps change the machine."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from containerd import daemon
from containerd.instance import Instance
from countersign.console.config import Settings
from countersign.console.errors import MissingError
from countersign.enforcement import doctor, gate, policy, proof, reach, record
from countersign.enforcement.policy import Policy
from countersign.nodes import facts
from countersign.nodes.service import Service
from countersign.nodes.steps import File, Running

if TYPE_CHECKING:
    from countersign.console.steps import Step
    from countersign.enforcement.proof import Proof

TOOLS = (*daemon.PROGRAMS, "countersign-gate", "countersign-hook")


@dataclass(frozen=True)
class Plan:
    """All that set-up needs to know, gathered without a change to the machine.

    Attributes:
        settings: the user's.
        instance: what it is about.
        programs: tool → its file.
        sandbox_image: by digest, as CRI pulls it and the policy pins it.
        gate: the gate's parts.
        own: containerd's own files.
        services: name → what to keep running.
    """

    settings: Settings
    instance: Instance
    programs: Mapping[str, Path] = field(repr=False)
    sandbox_image: str
    gate: gate.Gate
    own: list[File] = field(repr=False)
    services: Mapping[str, Service] = field(repr=False)


def check(settings: Settings, instance: Instance) -> None:
    """Refuse what can't work, before anything is built or changed.

    Raises:
        MissingError: we are not root.
        UsageError: the policy is invalid.
    """
    if os.geteuid() != 0:
        raise MissingError("containerd needs root", do="run it as root (sudo ./inv containerd.setup)")
    if not instance.addition.keys_to_come():
        policy.render(settings.policy, ())


def prepare(settings: Settings, instance: Instance, more_handlers: Mapping[str, str] | None = None) -> Plan:
    """Get every tool and image, and work out every file; ``more_handlers`` as in `daemon.files`.

    Raises:
        InfrastructureError: someone else has a port of ours, or a build failed.
        MissingError: something that a build needs is not there, or there is no sandbox image.
    """
    from countersign.tools.resolver import install

    programs = install(TOOLS, settings)
    sandbox_image = instance.addition.sandbox()
    if not sandbox_image:
        raise MissingError("brings no sandbox image", where="a containerd of our own", do="set up one that has one")
    layout, node = instance.layout, instance.node
    parts = gate.Gate(
        node=node,
        layout=layout,
        program=programs["countersign-gate"],
        hook=programs["countersign-hook"],
        docker_config=reach.docker_config(settings.registry.docker_config, instance.addition.logins),
        providers=gate.providers(settings.registry),
        runtime_socket=instance.socket,
        nri="" if more_handlers else instance.nri,
        base_specs={layout.base_spec: node.run([str(programs["ctr"]), "oci", "spec"]).stdout},
    )
    folder = next(each for each in (instance.root, *instance.root.parents) if each.is_dir())
    own = daemon.files(instance, facts.gather(node, str(folder)), sandbox_image, more_handlers)
    base_spec = next(file for file in gate.files(parts) if file.path == layout.base_spec)
    services = {
        "gate": gate.service(parts, instance.cgroup),
        "containerd": daemon.service(instance, own, base_spec, programs),
    }
    return Plan(settings, instance, programs, sandbox_image, parts, own, services)


def steps(plan: Plan) -> list[Step]:
    """Return every step in order: what the place is given beside, the gate, containerd."""
    instance, settings = plan.instance, plan.settings
    pins, addition = (plan.sandbox_image,), instance.addition
    return [
        *addition.prepared(),
        *gate.steps(plan.gate),
        File(instance.node, str(instance.pins), (json.dumps(pins, indent=2) + "\n").encode()),
        Policy(instance.node, instance.layout, settings.policy, pins, keys_to_come=addition.keys_to_come()),
        *addition.running(),
        Running(plan.services["gate"]),
        *daemon.steps(instance, plan.own, plan.services["containerd"], plan.programs),
    ]


def remember(plan: Plan) -> None:
    """Keep a record of what the steps put there, which `containerd.inspection` compares with what lies there later."""
    instance = plan.instance
    policy_there = Policy(instance.node, instance.layout, plan.settings.policy, (plan.sandbox_image,)).as_laid()
    record.keep(record.beside(instance.pins), {instance.node.name: [*gate.steps(plan.gate), policy_there]})


def prove(instance: Instance, image: str = "") -> Proof:
    """Refuse to call it done while anything could run unseen; ``image`` is one that the policy has to allow.

    Raises:
        NotEnforced: with everything found.
    """
    instance.wait_for_plugin()
    doctor.examine(instance.node, instance.layout)
    return tried(instance, image)


def tried(instance: Instance, image: str = "") -> Proof:
    """Have it prove itself; see `countersign.enforcement.proof.prove`."""
    return proof.prove(instance, "--cgroup-parent", f"/{instance.cgroup}/pods", image=image)
