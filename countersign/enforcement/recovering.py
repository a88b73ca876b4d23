"""The services around a runtime: a gate that is back decides only once the runtime asks it as its NRI plugin again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from countersign.enforcement.runtime import Controls


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

    @contextmanager
    def gate_stopped(self) -> Iterator[None]:
        """See `Controls.gate_stopped`."""
        with self._back(self.services.gate_stopped()):
            yield

    @contextmanager
    def gate_hung(self) -> Iterator[None]:
        """See `Controls.gate_hung`."""
        with self._back(self.services.gate_hung()):
            yield

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
