"""Where everything lies on a node: below one folder on this host, in the usual places on a real node."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from countersign.console.errors import UsageError

SOCKET_LIMIT = 107
"""Bytes in the path of a unix socket (unix(7): sun_path, less its final zero)."""


@dataclass(frozen=True)
class Layout:
    """Paths on a node. The same steps serve every layout.

    Attributes:
        verifiers: the folder of pull-time verifiers; nothing else lies in it.
        certs: the registries' hosts.toml files (containerd's ``certs.d``).
        lib: what has to outlive a restart.
    """

    bin: str
    verifiers: str
    etc: str
    certs: str
    lib: str
    run: str
    log: str

    @property
    def gate(self) -> str:
        """The gate's binary."""
        return f"{self.bin}/countersign-gate"

    @property
    def hook(self) -> str:
        """The hook's binary."""
        return f"{self.bin}/countersign-hook"

    @property
    def verifier(self) -> str:
        """The link under whose name the gate's binary is the pull-time verifier."""
        return f"{self.verifiers}/countersign-image-verifier"

    @property
    def gate_config(self) -> str:
        """The gate's gate.json."""
        return f"{self.etc}/gate.json"

    @property
    def policy(self) -> str:
        """The rendered policy."""
        return f"{self.etc}/policy.json"

    @property
    def policy_signature(self) -> str:
        """The signatures of the policy, where gate.json asks for one."""
        return f"{self.policy}.sig"

    @property
    def docker_config(self) -> str:
        """Registry credentials of the gate alone."""
        return f"{self.etc}/docker.json"

    @property
    def folders_made(self) -> str:
        """Which folders beside ours were not there before (`countersign.nodes.steps.Folder.record`)."""
        return f"{self.etc}/folders-made"

    @property
    def base_spec(self) -> str:
        """The OCI spec that every container starts from; it has the hook."""
        return f"{self.etc}/cri-base.json"

    @property
    def gate_socket(self) -> str:
        """The gate's socket."""
        return f"{self.run}/gate.sock"

    @property
    def metrics(self) -> str:
        """The gate's metrics socket."""
        return f"{self.run}/metrics.sock"

    @property
    def evidence(self) -> str:
        """Signatures kept on the node."""
        return f"{self.lib}/evidence"

    @property
    def policy_mark(self) -> str:
        """What the gate remembers of the policy's serial (gate/internal/policy)."""
        return f"{self.lib}/policy-mark.json"

    @property
    def verdicts(self) -> str:
        """One JSON line for each verdict."""
        return f"{self.log}/verdicts.jsonl"


SYSTEM = Layout(
    bin="/usr/local/bin",
    verifiers="/opt/containerd/image-verifier/bin",
    etc="/etc/countersign",
    certs="/etc/containerd/certs.d",
    lib="/var/lib/countersign",
    run="/run/countersign",
    log="/var/log/countersign",
)


def host(state: Path, name: str = "host") -> Layout:
    """Return the layout below ``<state>/<name>``.

    Raises:
        UsageError: the folder's path is too long to hold sockets.
    """
    root = state / name
    layout = Layout(
        bin=f"{root}/bin",
        verifiers=f"{root}/verifiers",
        etc=f"{root}/etc",
        certs=f"{root}/etc/certs.d",
        lib=f"{root}/lib",
        run=f"{root}/run",
        log=f"{root}/log",
    )
    longest = len(f"{layout.run}/containerd.sock.ttrpc".encode())
    if longest > SOCKET_LIMIT:
        raise UsageError(
            f"its sockets would have paths of {longest} bytes",
            where=f"state: {state}",
            expected=f"at most {SOCKET_LIMIT}",
            do="set INVOKE_STATE to a shorter folder",
        )
    return layout


def instance(state: Path) -> str:
    """Return a name that is this state folder's alone, for what has no folder: cgroups."""
    return f"countersign-{hashlib.sha256(bytes(state)).hexdigest()[:10]}"
