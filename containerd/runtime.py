"""Containerd, wherever and however it is kept running: what it has to say for itself beside every other runtime."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from countersign.enforcement.node_units import CONTAINERD
from countersign.enforcement.report import VERSION
from countersign.runtimes.machine import Machine

if TYPE_CHECKING:
    from countersign.nodes.node import Result

NAMESPACE = "k8s.io"
"""CRI's namespace in containerd."""
SOCKET = "/run/containerd/containerd.sock"
CONFIG = "/etc/containerd/config.toml"
DEFAULT_SNAPSHOTTER = "overlayfs"


@dataclass(frozen=True)
class Containerd(Machine):
    """See `countersign.runtimes.machine.Machine`."""

    room = "containerd"
    title = "containerd"
    status = VERSION
    unit = CONTAINERD

    @property
    @abstractmethod
    def snapshotter(self) -> str:
        """The snapshotter that its configuration names."""

    @property
    def config(self) -> str:
        """The path of its configuration."""
        return CONFIG

    @property
    def client_program(self) -> Sequence[str]:
        """How ctr reaches it."""
        return ("ctr",)

    def own_files(self) -> Sequence[str]:
        """See `Machine.own_files`."""
        return (self.config,)

    def ctr(self, arguments: Sequence[str], timeout: float = 60, check: bool = True) -> Result:
        """Run ctr in CRI's namespace: past CRI, and past every check at pull.

        Raises:
            CommandError: it failed (with ``check``).
        """
        argv = [*self.client_program, "--namespace", NAMESPACE, *arguments]
        return self.node.run(argv, timeout=timeout, check=check)

    def fetch(self, reference: str) -> None:
        """See `Machine.fetch`."""
        hosts = ["--hosts-dir", self.layout.certs, "--snapshotter", self.snapshotter]
        self.ctr(["images", "pull", "--local", *hosts, reference])

    def forget(self, *references: str) -> None:
        """See `Machine.forget`."""
        if references:
            self.ctr(["images", "rm", "--sync", *references])


def import_archive(runtime: Containerd, archive: bytes | Path) -> None:
    """Bring the images of an OCI archive into the store with ctr, which asks no verifier."""
    there = f"{runtime.layout.lib}/import.tar"
    runtime.node.put(archive, there, 0o600)
    try:
        runtime.ctr(["images", "import", "--snapshotter", runtime.snapshotter, there], timeout=300)
    finally:
        runtime.node.run(["rm", "-f", "--", there])
