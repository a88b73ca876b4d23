"""A containerd that systemd keeps running on some node, with the usual paths: a Kind node, a machine over SSH."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from containerd.runtime import NAMESPACE
from countersign.console.errors import InfrastructureError
from countersign.cri.errors import CriError
from countersign.enforcement import additions, nri, policy
from countersign.enforcement.additions import NOTHING
from countersign.enforcement.layout import SYSTEM, Layout
from countersign.enforcement.node_units import ACTIVE, CONTAINERD, GATE, Units, kubelet_paused
from countersign.enforcement.recovering import Recovering
from countersign.nodes.systemd import unit_state
from countersign.nodes.waiting import RECOVERY, wait_for

if TYPE_CHECKING:
    from countersign.cri.client import Client
    from countersign.cri.model import Auth
    from countersign.enforcement.additions import Addition
    from countersign.nodes.node import Node, Result

SOCKET = "/run/containerd/containerd.sock"
CONFIG = "/etc/containerd/config.toml"
DEFAULT_SNAPSHOTTER = "overlayfs"


@dataclass(frozen=True)
class Machine:
    """One node with a containerd under systemd; see `containerd.runtime.Runtime`.

    Attributes:
        state: the state folder on this machine.
        node: where it runs.
        handlers: its runtime handlers, the default one first.
        pins: the file on this machine with what set-up pinned.
        addition: what it is given beside enforcement.
        cgroup_parent: of pods that trials make; a slice where containerd leaves cgroups to systemd.
        snapshotter: as its configuration names it.
        layout: where our parts lie there.
    """

    state: Path
    node: Node
    handlers: Sequence[str]
    pins: Path
    addition: Addition = field(default=NOTHING, repr=False)
    cgroup_parent: str = ""
    snapshotter: str = DEFAULT_SNAPSHOTTER
    layout: Layout = SYSTEM

    @property
    def config(self) -> str:
        """See `Runtime.config`."""
        return CONFIG

    @property
    def registry_names(self) -> Sequence[str]:
        """See `Runtime.registry_names`."""
        return self.addition.names

    def client(self, timeout: float = 60) -> Client:
        """See `Runtime.client`."""
        from countersign.cri.client import Client

        return Client(
            self.node.forward(SOCKET),
            cgroup_parent=self.cgroup_parent,
            log_directory=f"{self.layout.log}/pods",
            read=self.node.get,
            timeout=timeout,
        )

    def ctr(self, arguments: Sequence[str], timeout: float = 60, check: bool = True) -> Result:
        """See `Runtime.ctr`."""
        return self.node.run(["ctr", "--namespace", NAMESPACE, *arguments], timeout=timeout, check=check)

    def fetch(self, reference: str) -> None:
        """See `Runtime.fetch`."""
        hosts = ["--hosts-dir", self.layout.certs, "--snapshotter", self.snapshotter]
        self.ctr(["images", "pull", "--local", *hosts, reference])

    def forget(self, *references: str) -> None:
        """See `Runtime.forget`."""
        if references:
            self.ctr(["images", "rm", "--sync", *references])

    def pinned(self) -> list[str]:
        """See `Runtime.pinned`."""
        return policy.read_pins(self.pins)

    def credentials(self, reference: str) -> Auth | None:
        """See `Runtime.credentials`."""
        return additions.credentials(self.addition, reference)

    def controls(self) -> Recovering:
        """See `Runtime.controls`."""
        return Recovering(Units(self.node, self.addition.stopped, self.wait_until_it_answers), self)

    def undisturbed(self) -> AbstractContextManager[None]:
        """See `Runtime.undisturbed`."""
        return kubelet_paused(self.node)

    def kept(self) -> Sequence[str]:
        """See `Runtime.kept`."""
        return (self.layout.verdicts, CONFIG, self.layout.gate_config, self.layout.policy)

    def require_up(self) -> None:
        """See `Runtime.require_up`."""
        for unit in (GATE, CONTAINERD):
            found = unit_state(self.node, unit).active
            if found != ACTIVE:
                raise InfrastructureError(f"{unit} is {found}", where=self.node.name, do="run ./inv containerd.setup")

    def wait_for_plugin(self) -> None:
        """Return once containerd asks the gate as its NRI plugin; before that it makes no container at all."""
        nri.wait_for_plugin(self.node, self.layout, RECOVERY)

    def wait_until_ready(self) -> None:
        """Return once containers can be made."""
        self.wait_until_it_answers()
        self.wait_for_plugin()

    def wait_until_it_answers(self) -> None:
        """Return once containerd answers over CRI. Raises InfrastructureError when it does not in time."""
        with self.client(timeout=5) as client:

            def answers() -> bool:
                try:
                    return bool(client.version().version)
                except CriError:
                    return False

            wait_for(answers, f"containerd on {self.node.name} did not answer over CRI", pause=0.1)
