"""A containerd under enforcement as a place where the matrix runs (``cases.place``)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cases.cri_place import CriPlace

if TYPE_CHECKING:
    from containerd.runtime import Runtime


class ContainerdPlace(CriPlace):
    """A containerd that set-up made; what CRI has no call for is done with ctr."""

    runtime = "containerd"

    def __init__(self, runtime: Runtime, users_policy: Path) -> None:
        """Open the place; see `CriPlace`."""
        super().__init__(runtime, users_policy)
        self._containerd = runtime

    def import_images(self, archive: Path) -> None:
        """Load an OCI archive with ctr, which asks no verifier."""
        node, there = self.at.node, f"{self.at.layout.lib}/import.tar"
        node.put(archive, there, 0o600)
        try:
            self._containerd.ctr(
                ["images", "import", "--snapshotter", self._containerd.snapshotter, there], timeout=300
            )
        finally:
            node.run(["rm", "-f", "--", there])

    def tag(self, source: str, target: str) -> None:
        """Give an image another name; an existing one is re-pointed."""
        self._containerd.ctr(["images", "tag", "--force", source, target])

    def forget(self, reference: str) -> None:
        """Remove one name."""
        self._containerd.forget(reference)
