"""What the verbs after set-up need of a runtime under enforcement, wherever and however it is kept running."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from countersign.cri.client import Client
    from countersign.cri.model import Auth
    from countersign.enforcement.layout import Layout
    from countersign.nodes.node import Node


class Controls(Protocol):
    """The services around a runtime, to be disturbed by trials and put right again."""

    def gate_stopped(self) -> AbstractContextManager[None]:
        """Keep the gate stopped; it is back afterwards."""

    def gate_hung(self) -> AbstractContextManager[None]:
        """Freeze the gate; its watchdog must notice and replace it."""

    def gate_renewed(self, meanwhile: Callable[[], object]) -> None:
        """Stop the gate, call ``meanwhile``, and start it: nothing is left in its memory."""

    def registry_stopped(self, host: str) -> AbstractContextManager[None]:
        """Keep the registry of this name stopped."""

    def restart_runtime(self) -> None:
        """Restart the runtime and return once it answers."""


class Runtime(Protocol):
    """A runtime that set-up put under enforcement."""

    @property
    def state(self) -> Path:
        """The state folder on this machine: results go there."""

    @property
    def node(self) -> Node:
        """Where it runs."""

    @property
    def layout(self) -> Layout:
        """Where our parts lie there."""

    @property
    def handlers(self) -> Sequence[str]:
        """Its runtime handlers, the default one first; at least two where the lab made the node."""

    @property
    def registry_names(self) -> Sequence[str]:
        """The registries of a lab that it reaches by name."""

    @property
    def pins(self) -> Path:
        """The file on this machine with what set-up pinned, beside which its record lies."""

    def client(self, timeout: float = 60) -> Client:
        """Return a CRI client."""

    def pinned(self) -> Sequence[str]:
        """Return what set-up pinned beside the user's policy."""

    def credentials(self, reference: str) -> Auth | None:
        """Return what a kubelet would pass on for this image."""

    def controls(self) -> Controls:
        """Return the services around it."""

    def undisturbed(self) -> AbstractContextManager[None]:
        """Keep away whatever else would remove the pods that trials make over CRI."""

    def kept(self) -> Sequence[str]:
        """Return the files of the node that tell what happened; none has secrets."""

    def require_up(self) -> None:
        """Raise InfrastructureError unless everything runs."""


class PluginHost(Protocol):
    """A runtime whose NRI plugin the gate is."""

    def wait_for_plugin(self) -> None:
        """Return once the runtime asks the gate as its NRI plugin."""

    def wait_until_ready(self) -> None:
        """Return once containers can be made."""


@dataclass(frozen=True)
class Recovering:
    """See `countersign.enforcement.runtime.Controls`.

    Attributes:
        services: how they are stopped and started.
        runtime: the runtime.
    """

    services: Controls
    runtime: PluginHost

    def gate_stopped(self) -> AbstractContextManager[None]:
        """See `Controls.gate_stopped`."""
        return self._back(self.services.gate_stopped())

    def gate_hung(self) -> AbstractContextManager[None]:
        """See `Controls.gate_hung`."""
        return self._back(self.services.gate_hung())

    def gate_renewed(self, meanwhile: Callable[[], object]) -> None:
        """See `Controls.gate_renewed`."""
        self.services.gate_renewed(meanwhile)
        self.runtime.wait_for_plugin()

    def registry_stopped(self, host: str) -> AbstractContextManager[None]:
        """See `Controls.registry_stopped`."""
        return self.services.registry_stopped(host)

    def restart_runtime(self) -> None:
        """See `Controls.restart_runtime`."""
        self.services.restart_runtime()
        self.runtime.wait_until_ready()

    @contextmanager
    def _back(self, disturbed: AbstractContextManager[None]) -> Iterator[None]:
        try:
            with disturbed:
                yield
        finally:
            self.runtime.wait_for_plugin()


def collect(runtime: Runtime, folder: Path) -> Path:
    """Copy logs and configuration of a runtime to ``folder``, without secrets, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in runtime.kept():
        if runtime.node.exists(path):
            (folder / Path(path).name).write_bytes(runtime.node.get(path))
    return folder
