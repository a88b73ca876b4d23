"""A containerd under enforcement as a place where the matrix runs (``lab.trials.place``)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path, PurePosixPath

from containerd.adapt import with_handler
from containerd.runtime import Containerd, import_archive
from countersign.enforcement import nri, refusal
from countersign.enforcement.gate_client import request
from lab.trials.cri_place import CriPlace
from lab.trials.engines import GATE_GONE, code_of

ADDED = "countersign-added"
"""A runtime handler of one trial."""


class ContainerdPlace(CriPlace):
    """A containerd that set-up made; what CRI has no call for is done with ctr."""

    runtime = "containerd"

    def __init__(self, runtime: Containerd, users_policy: Path) -> None:
        """Open the place; see `CriPlace`."""
        super().__init__(runtime, users_policy)
        self._containerd = runtime

    @cached_property
    def plugin_required(self) -> bool:
        """Whether this containerd is new enough to require the gate's NRI plugin."""
        return str(request(self.at.node, self.at.layout, "ping").get("nri")) != nri.OFF

    def code_of(self, message: str) -> str:
        """Return the reason code in the gate's own sentence, or what others' words for an absent gate stand for."""
        return refusal.code_of(message) or code_of(message, GATE_GONE)

    @contextmanager
    def added_handler(self, *, hooked: bool, other_runtime: bool = False) -> Iterator[str]:
        """Add a handler to containerd's configuration as a user would; see `lab.trials.place.Place.added_handler`."""
        node, path = self.at.node, self._containerd.config
        before = node.get(path)
        node.put(with_handler(before, ADDED, hooked=hooked, shim=self._shim() if other_runtime else ""), path)
        try:
            self.restart_runtime()
            yield ADDED
        finally:
            node.put(before, path)
            self.restart_runtime()

    def _shim(self) -> str:
        """Return the path of runc's shim, which lies beside containerd."""
        found = self.at.node.run(["sh", "-c", f"command -v {self._containerd.program}"]).stdout.decode().strip()
        return str(PurePosixPath(found).with_name("containerd-shim-runc-v2"))

    def import_images(self, archive: Path) -> None:
        """Load an OCI archive with ctr, which asks no verifier."""
        import_archive(self._containerd, archive)

    def tag(self, source: str, target: str) -> None:
        """Give an image another name; an existing one is re-pointed."""
        self._containerd.ctr(["images", "tag", "--force", source, target])

    def forget(self, reference: str) -> None:
        """Remove one name."""
        self._containerd.forget(reference)
