"""One private containerd of this machine: its names, paths, and the ways to talk to it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from containerd.runtime import NAMESPACE
from countersign.console.errors import InfrastructureError
from countersign.enforcement import additions, nri, policy
from countersign.enforcement import layout as layouts
from countersign.enforcement.additions import NOTHING, Addition
from countersign.enforcement.layout import Layout
from countersign.enforcement.recovering import Recovering
from countersign.enforcement.supervised import Supervised
from countersign.nodes import service
from countersign.nodes.host import HOST, HostNode
from countersign.nodes.service import State
from countersign.nodes.waiting import RECOVERY

if TYPE_CHECKING:
    from countersign.cri.client import Client
    from countersign.cri.model import Auth
    from countersign.nodes.node import Result

HANDLERS = ("runc", "runc-alt")
"""The runtime handlers; there are two to show that each needs the hook."""
SERVICES = ("gate", "containerd")
"""What is supervised, in the order in which it starts; what the place is given beside comes before."""


@dataclass(frozen=True)
class Instance:
    """What set-up makes below one state folder, and what the verbs after it use.

    Attributes:
        state: the state folder.
        layout: where everything lies.
        node: this machine.
        addition: what it is given beside enforcement.
    """

    state: Path
    layout: Layout
    node: HostNode
    addition: Addition = field(default=NOTHING, repr=False, compare=False)
    handlers = HANDLERS
    room = "containerd"

    @property
    def services(self) -> Sequence[str]:
        """Everything supervised, in the order in which it starts."""
        return (*self.addition.services, *SERVICES)

    @property
    def registry_names(self) -> Sequence[str]:
        """The registries of a lab that it reaches by name."""
        return self.addition.names

    @property
    def root(self) -> Path:
        """The folder that is all ours."""
        return self.state / "host"

    @property
    def data(self) -> str:
        """What containerd itself keeps. Others may pass through: with user namespaces, containers have to."""
        return f"{self.root}/containerd"

    @property
    def run(self) -> Path:
        """Where supervisors keep their files."""
        return Path(self.layout.run)

    @property
    def cgroup(self) -> str:
        """The cgroup of everything that belongs to the instance."""
        return layouts.instance(self.state)

    @property
    def socket(self) -> str:
        """Containerd's gRPC socket, CRI included."""
        return f"{self.layout.run}/containerd.sock"

    @property
    def nri(self) -> str:
        """The socket at which NRI plugins register."""
        return f"{self.layout.run}/nri.sock"

    @property
    def config(self) -> str:
        """Containerd's configuration."""
        return f"{self.layout.etc}/containerd.toml"

    @property
    def log(self) -> str:
        """Containerd's log."""
        return f"{self.layout.log}/containerd.log"

    @property
    def pins(self) -> Path:
        """Digests that set-up pinned, beside those of the user's policy."""
        return self.root / "pins.json"

    def program(self, name: str) -> str:
        """Return the path of one of containerd's programs (``containerd``, ``ctr``, ``runc``)."""
        return f"{self.layout.bin}/{name}"

    def client(self, timeout: float = 60) -> Client:
        """Return a CRI client; pods it makes belong to the instance's cgroup."""
        from countersign.cri.client import Client

        return Client(
            self.node.forward(self.socket),
            cgroup_parent=f"/{self.cgroup}/pods",
            log_directory=f"{self.layout.log}/pods",
            read=self.node.get,
            timeout=timeout,
        )

    def ctr(self, arguments: Sequence[str], timeout: float = 60, check: bool = True) -> Result:
        """Run ctr in CRI's namespace: past CRI, and past every check at pull.

        Raises:
            CommandError: it failed (with ``check``).
        """
        argv = [self.program("ctr"), "--address", self.socket, "--namespace", NAMESPACE, *arguments]
        return self.node.run(argv, timeout=timeout, check=check)

    @property
    def snapshotter(self) -> str:
        """The snapshotter that the configuration names."""
        found = re.search(r'^  snapshotter = "(\w+)"', self.node.get(self.config).decode(), re.MULTILINE)
        return found[1] if found else "overlayfs"

    def fetch(self, reference: str) -> None:
        """Bring an image of a mapped registry into the store without CRI, and so without the verifier."""
        hosts = ["--hosts-dir", self.layout.certs, "--snapshotter", self.snapshotter]
        self.ctr(["images", "pull", "--local", *hosts, reference])

    def forget(self, *references: str) -> None:
        """Remove names from the image store; one that is not there is no error."""
        if references:
            self.ctr(["images", "rm", "--sync", *references])

    def pinned(self) -> list[str]:
        """Return the digests that set-up pinned."""
        return policy.read_pins(self.pins)

    def credentials(self, reference: str) -> Auth | None:
        """Return what the registries of a lab want; other ones are passed none."""
        return additions.credentials(self.addition, reference)

    def controls(self) -> Recovering:
        """Return the services, which our own supervisor keeps running."""
        return Recovering(Supervised(self.run, self.addition.stopped), self)

    def wait_for_plugin(self) -> None:
        """Return once containerd asks the gate as its NRI plugin; before that it makes no container at all."""
        nri.wait_for_plugin(self.node, self.layout, RECOVERY)

    def wait_until_ready(self) -> None:
        """Return once containers can be made."""
        self.wait_for_plugin()

    def undisturbed(self) -> AbstractContextManager[None]:
        """Keep nobody away: nobody else knows of this containerd."""
        return nullcontext()

    def kept(self) -> list[str]:
        """Return logs and configuration."""
        logs = [f"{self.layout.log}/{name}" for name in ("verdicts.jsonl", *(f"{name}.log" for name in self.services))]
        return [*logs, self.config, self.layout.gate_config, self.layout.policy]

    def states(self) -> list[State]:
        """Return how each supervised service is."""
        return [service.state(self.run, name) for name in self.services]

    def require_up(self) -> None:
        """Raise InfrastructureError unless every service runs."""
        for found in self.states():
            if found.state != "running":
                raise InfrastructureError(
                    f"{found.name} is {found.state}", where=str(self.root), do="run ./inv containerd.setup"
                )


def instance(state: Path) -> Instance:
    """Return the instance of a state folder, whether it exists or not.

    However the folder is spelled, it is the same instance.

    Raises:
        UsageError: the folder's path is too long for sockets.
    """
    state = state.resolve()
    return Instance(state, layouts.host(state), HOST)
