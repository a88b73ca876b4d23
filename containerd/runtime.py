"""What trials need of a containerd beside what they need of every runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from countersign.enforcement.runtime import Runtime as AnyRuntime

if TYPE_CHECKING:
    from countersign.nodes.node import Result

NAMESPACE = "k8s.io"
"""CRI's namespace in containerd."""


class Runtime(AnyRuntime, Protocol):
    """A containerd that set-up put under enforcement."""

    @property
    def config(self) -> str:
        """The path of its configuration."""

    @property
    def snapshotter(self) -> str:
        """The snapshotter that its configuration names."""

    def ctr(self, arguments: Sequence[str], timeout: float = 60, check: bool = True) -> Result:
        """Run ctr in CRI's namespace: past CRI, and past every check at pull."""

    def fetch(self, reference: str) -> None:
        """Bring an image into the store without CRI, and so without the verifier."""

    def forget(self, *references: str) -> None:
        """Remove names from the image store; one that is not there is no error."""


def import_archive(runtime: Runtime, archive: bytes | Path) -> None:
    """Bring the images of an OCI archive into the store with ctr, which asks no verifier."""
    there = f"{runtime.layout.lib}/import.tar"
    runtime.node.put(archive, there, 0o600)
    try:
        runtime.ctr(["images", "import", "--snapshotter", runtime.snapshotter, there], timeout=300)
    finally:
        runtime.node.run(["rm", "-f", "--", there])
