"""Where everything lies on a node: below one folder on this host, in the usual places on a real node."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from countersign.console.errors import UsageError

SOCKET_LIMIT = 107
"""Bytes in the path of a unix socket (unix(7): sun_path, less its final zero)."""


@dataclass(frozen=True)
class Below:
    """A path of a layout below one of its folders."""

    folder: str
    name: str

    def __get__(self, layout: Layout, _owner: type[Layout]) -> str:
        """Return the path as a layout has it."""
        return f"{getattr(layout, self.folder)}/{self.name}"


@dataclass(frozen=True)
class Layout:
    """Paths on a node. The same steps serve every layout.

    Attributes:
        bin: programs.
        verifiers: the folder of pull-time verifiers; nothing else lies in it.
        etc: configuration.
        certs: the registries' hosts.toml files (containerd's ``certs.d``).
        lib: what has to outlive a restart.
        run: sockets.
        log: logs.
    """

    bin: str
    verifiers: str
    etc: str
    certs: str
    lib: str
    run: str
    log: str

    gate = Below("bin", "countersign-gate")
    """The gate's binary."""
    hook = Below("bin", "countersign-hook")
    """The hook's binary."""
    verifier = Below("verifiers", "countersign-image-verifier")
    """The link under whose name the gate's binary is the pull-time verifier."""
    gate_config = Below("etc", "gate.json")
    """The gate's gate.json."""
    policy = Below("etc", "policy.json")
    """The rendered policy."""
    policy_signature = Below("etc", "policy.json.sig")
    """The signatures of the policy, where gate.json asks for one."""
    docker_config = Below("etc", "docker.json")
    """Registry credentials of the gate alone."""
    folders_made = Below("etc", "folders-made")
    """Which folders beside ours were not there before (`countersign.nodes.steps.Folder.record`)."""
    base_spec = Below("etc", "cri-base.json")
    """The OCI spec that every container starts from; it has the hook."""
    gate_socket = Below("run", "gate.sock")
    """The gate's socket."""
    metrics = Below("run", "metrics.sock")
    """The gate's metrics socket."""
    evidence = Below("lib", "evidence")
    """Signatures kept on the node."""
    policy_mark = Below("lib", "policy-mark.json")
    """What the gate remembers of the policy's serial (gate/internal/policy)."""
    verdicts = Below("log", "verdicts.jsonl")
    """One JSON line for each verdict."""


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
