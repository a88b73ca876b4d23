"""Set-up of the private containerd: everything is checked and made ready first, then the steps change the machine."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from containerd import daemon
from containerd.instance import HANDLERS, Instance
from countersign.console.config import Settings
from countersign.console.errors import MissingError
from countersign.enforcement import canary, doctor, gate, images, policy, record, registries
from countersign.enforcement.keys import KeyPair
from countersign.enforcement.policy import Policy
from countersign.enforcement.registries import REFERRERS, Registries
from countersign.nodes import facts, service
from countersign.nodes.service import Service
from countersign.nodes.steps import File, Running

if TYPE_CHECKING:
    from countersign.console.steps import Step
    from countersign.nodes.node import Node
    from countersign.oci.registry import Registry

IMAGES = ("pause", "demo")
"""Built beside the programs; `countersign.tools.images` finds them then."""
TOOLS = (*daemon.PROGRAMS, "countersign-gate", "countersign-hook", "registry", "registry-fallback", *IMAGES)
PAUSE = f"{REFERRERS}/system/pause"
PAUSE_TAG = "countersign"


@dataclass(frozen=True)
class Plan:
    """All that set-up needs to know, gathered without a change to the machine.

    Attributes:
        settings: the user's.
        instance: what it is about.
        programs: tool → its file.
        pause: the pause image's OCI layout.
        canary: the canary image's OCI layout.
        registries: the demo's.
        gate: the gate's parts.
        own: containerd's own files.
        services: name → what to keep running.
    """

    settings: Settings
    instance: Instance
    programs: Mapping[str, Path] = field(repr=False)
    pause: Path
    canary: Path
    registries: Registries
    gate: gate.Gate
    own: list[File] = field(repr=False)
    services: Mapping[str, Service] = field(repr=False)

    @property
    def sandbox_image(self) -> str:
        """The pause image by digest, as CRI pulls it and the policy pins it."""
        return f"{PAUSE}@{images.digest(self.pause)}"

    def registry(self) -> Registry:
        """Return a client that reaches the demo's registries."""
        from countersign.oci.registry import Registry

        layout = self.instance.layout
        return Registry(Path(layout.certs), Path(layout.docker_config), allow_http=self.settings.registry.allow_http)

    def registry_runs(self) -> bool:
        """Return whether the registry that the images go to is up."""
        return service.state(self.instance.run, registries.SERVICES[REFERRERS]).state == "running"


def check(settings: Settings, instance: Instance) -> None:
    """Refuse what can't work, before anything is built or changed.

    Raises:
        MissingError: we are not root.
        UsageError: the policy is invalid.
    """
    if os.geteuid() != 0:
        raise MissingError("containerd needs root", do="run it as root (sudo ./inv containerd.setup)")
    if not KeyPair(settings.keys).needed(instance.node):
        policy.render(settings.policy, ())


def prepare(settings: Settings, instance: Instance, more_handlers: Mapping[str, str] | None = None) -> Plan:
    """Get every tool and image, and work out every file; ``more_handlers`` as in `daemon.files`.

    Raises:
        InfrastructureError: someone else has a port of ours, or a build failed.
        MissingError: something that a build needs is not there.
    """
    from countersign.oci.build import variant
    from countersign.tools.images import demo_layout, pause_layout
    from countersign.tools.resolver import install

    demo = registries.load_or_make(instance.registry_folder)
    registries.check_ports(demo, instance.run)
    programs = install(TOOLS, settings)
    pause = pause_layout(settings)
    marked = settings.cache / "canary" / images.digest(demo_layout(settings)).replace(":", "-")
    if not (marked / "index.json").is_file():
        variant(demo_layout(settings), "canary", marked)
    layout, node = instance.layout, instance.node
    sandbox_image = f"{PAUSE}@{images.digest(pause)}"
    parts = gate.Gate(
        layout=layout,
        program=programs["countersign-gate"],
        hook=programs["countersign-hook"],
        docker_config=registries.docker_config(demo, settings.registry.docker_config),
        providers=gate.providers(settings.registry),
        runtime_socket=instance.socket,
        nri="" if more_handlers else instance.nri,
        base_specs={layout.base_spec: node.run([str(programs["ctr"]), "oci", "spec"]).stdout},
    )
    folder = next(each for each in (instance.root, *instance.root.parents) if each.is_dir())
    own = daemon.files(instance, facts.gather(node, str(folder)), sandbox_image, more_handlers)
    base_spec = next(file for file in gate.files(parts) if file.path == layout.base_spec)
    services = {
        **registries.services(demo, layout, instance.cgroup, programs),
        "gate": gate.service(parts, instance.cgroup),
        "containerd": daemon.service(instance, own, base_spec, programs),
    }
    return Plan(settings, instance, programs, pause, marked, demo, parts, own, services)


def steps(plan: Plan) -> list[Step[Node]]:
    """Return every step in order: keys, registries and their images, the gate, containerd."""
    instance, settings = plan.instance, plan.settings
    pins = (plan.sandbox_image,)
    keys = KeyPair(settings.keys)
    return [
        keys,
        *gate.steps(plan.gate),
        File(str(instance.pins), (json.dumps(pins, indent=2) + "\n").encode()),
        Policy(instance.layout, settings.policy, pins, keys_to_come=keys.needed(instance.node)),
        *registries.steps(plan.registries, instance.layout, {k: plan.services[k] for k in registries.SERVICES}),
        images.Pushed(plan.registry, PAUSE, PAUSE_TAG, plan.pause, plan.registry_runs),
        images.Pushed(plan.registry, canary.REPOSITORY, canary.TAG, plan.canary, plan.registry_runs),
        Running(plan.services["gate"]),
        *daemon.steps(instance, plan.own, plan.services["containerd"], plan.programs),
    ]


def remember(plan: Plan) -> None:
    """Keep a record of what the steps put there, which `containerd.inspection` compares with what lies there later."""
    instance = plan.instance
    policy_there = Policy(instance.layout, plan.settings.policy, (plan.sandbox_image,))
    record.keep(record.beside(instance.pins), {instance.node.name: [*gate.steps(plan.gate), policy_there]})


def prove(instance: Instance) -> None:
    """Refuse to call it done while anything could run unseen.

    Raises:
        NotEnforced: with everything found.
    """
    daemon_argv = [instance.program("containerd"), "--config", instance.config]
    instance.wait_for_plugin()
    doctor.examine(instance.node, instance.layout, daemon_argv, instance.log_since_start())
    with instance.client() as client:
        canary.prove(client, instance.fetch, instance.forget, HANDLERS)
