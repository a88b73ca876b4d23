"""The gate on a node: programs, configuration, credentials, and the service that runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countersign.enforcement import node_files
from countersign.enforcement.layout import Layout
from countersign.enforcement.policy_keys import Unsigned
from countersign.nodes.service import Service
from countersign.nodes.steps import File, Folder, Group, Link

if TYPE_CHECKING:
    from countersign.console.config import RegistrySettings
    from countersign.console.steps import Step
    from countersign.nodes.node import Node

WATCHDOG = 10.0
"""Seconds of silence after which the gate is taken for hung; units/countersign-gate.service has the same."""


@dataclass(frozen=True)
class CrioStorage:
    """Where CRI-O keeps what the gate reads, and how the gate reaches it.

    Attributes:
        root: CRI-O's ``root``, which is containers/storage's.
        run_root: CRI-O's ``runroot``.
        nri: CRI-O's ``nri_listen``, through which the gate sees to it that every container has the hook;
            empty for no NRI plugin.
        socket: CRI-O's own socket, by which an audit asks what runs.
    """

    root: str
    run_root: str
    nri: str
    socket: str


@dataclass(frozen=True)
class Providers:
    """The kubelet's credential providers, on the node.

    Attributes:
        config: the kubelet's ``--image-credential-provider-config``.
        bin_dir: the kubelet's ``--image-credential-provider-bin-dir``.
    """

    config: str
    bin_dir: str


def providers(registry: RegistrySettings) -> Providers | None:
    """Return the credential providers that the settings name; None for none."""
    if not registry.credential_providers:
        return None
    return Providers(registry.credential_providers, registry.credential_provider_bin_dir)


@dataclass(frozen=True)
class Gate:
    """What goes to a node.

    Attributes:
        node: where it goes.
        layout: to which paths there.
        program: the gate's binary on this machine.
        hook: the hook's binary on this machine.
        docker_config: registry credentials.
        runtime_socket: containerd's gRPC socket on the node; empty where CRI-O is the runtime.
        nri: containerd's NRI socket, through which the gate refuses containers without the hook; empty for no plugin.
        base_specs: path of a base spec → the OCI spec that it is, once our hook is in it; none on CRI-O.
        crio: CRI-O's storage; None where containerd is the runtime.
        policy_keys: public keys, PEM: the gate takes only policies that one of them has signed; none means any policy.
        providers: credential providers for what docker_config has no login for; None for none.
        told: what the runtime's settings depend on, as ``Told`` and ``ToldCrio`` of gate/internal/install have it;
            None for none.
    """

    node: Node
    layout: Layout
    program: Path
    hook: Path
    docker_config: bytes = field(repr=False)
    runtime_socket: str = ""
    base_specs: Mapping[str, bytes] = field(repr=False, default_factory=dict)
    crio: CrioStorage | None = None
    nri: str = ""
    policy_keys: tuple[str, ...] = ()
    providers: Providers | None = None
    told: Mapping[str, Any] | None = field(repr=False, default=None)

    def __post_init__(self) -> None:
        """Check that there is one runtime.

        Raises:
            ValueError: there is none, or there are two.
        """
        if bool(self.runtime_socket) == bool(self.crio):
            raise ValueError("a gate has containerd's socket or CRI-O's storage")


def written(gate: Gate) -> node_files.Written:
    """Return what the gate's program says that the node has to have."""
    runtime: dict[str, Any] = {"containerd": {"address": gate.runtime_socket, "nri": gate.nri, "told": gate.told}}
    if crio := gate.crio:
        names = {"root": crio.root, "runRoot": crio.run_root, "nri": crio.nri, "socket": crio.socket}
        runtime = {"crio": {**names, "told": gate.told}}
    providers = gate.providers
    place = {
        "layout": asdict(gate.layout),
        **runtime,
        "baseSpecs": {path: spec.decode(errors="replace") for path, spec in gate.base_specs.items()},
        "policyKeys": gate.policy_keys,
        "credentialProviders": providers and {"config": providers.config, "binDir": providers.bin_dir},
    }
    return node_files.written(gate.program, place)


def files(gate: Gate) -> list[File]:
    """Return the gate's files, programs first."""
    layout = gate.layout
    return [
        File(gate.node, layout.gate, gate.program, 0o755),
        File(gate.node, layout.hook, gate.hook, 0o755),
        File(gate.node, layout.docker_config, gate.docker_config, 0o600),
        *(File(gate.node, path, content) for path, content in written(gate).files.items()),
    ]


def steps(gate: Gate) -> list[Step]:
    """Return the steps that put it all on a node; none of them starts anything."""
    layout = gate.layout
    folders = [
        Folder(gate.node, layout.etc),
        *(Folder(gate.node, path, record=layout.folders_made) for path in (layout.bin, layout.verifiers, layout.certs)),
        *(Folder(gate.node, path, 0o700) for path in (layout.lib, layout.evidence, layout.run, layout.log)),
    ]
    return [
        *([] if gate.policy_keys else [Unsigned(gate.node, layout)]),
        Group(gate.node, f"folders of gate and hook ({layout.etc}, …)", folders),
        Group(gate.node, f"gate, hook and their configuration ({layout.gate_config})", files(gate)),
        Group(gate.node, f"pull-time verifier ({layout.verifier})", [Link(gate.node, layout.verifier, layout.gate)]),
    ]


def environment(layout: Layout) -> dict[str, str]:
    """Return what the verifier needs in the environment of the runtime, which passes its own on."""
    return {"COUNTERSIGN_CONFIG": layout.gate_config}


def service(gate: Gate, cgroup: str) -> Service:
    """Return the gate as a supervised service of this machine; it needs no restart for another policy or binary."""
    layout = gate.layout
    restarted_by: Mapping[str, str] = {
        file.path: file.digest() for file in files(gate) if file.path in {layout.gate, layout.gate_config}
    }
    return Service(
        name="gate",
        argv=(layout.gate, "serve", "--config", layout.gate_config),
        run=layout.run,
        log=f"{layout.log}/gate.log",
        env={"HOME": layout.lib},
        ready="notify",
        watchdog=WATCHDOG,
        cgroup=cgroup,
        hands_over=True,
        inputs=restarted_by,
    )
