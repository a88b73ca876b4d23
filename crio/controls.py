"""The services around a CRI-O: a gate that is back decides only once CRI-O asks it as its NRI plugin again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crio.machine import Machine
    from enforcement.runtime import Controls


@dataclass(frozen=True)
class Recovering:
    """See `enforcement.runtime.Controls`.

    Attributes:
        services: how they are stopped and started.
        machine: the CRI-O.
    """

    services: Controls
    machine: Machine

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
        self.machine.wait_for_plugin()

    def registry_stopped(self, host: str) -> AbstractContextManager[None]:
        """See `Controls.registry_stopped`."""
        return self.services.registry_stopped(host)

    def restart_runtime(self) -> None:
        """See `Controls.restart_runtime`."""
        self.services.restart_runtime()
        self.machine.wait_until_ready()

    @contextmanager
    def _back(self, disturbed: AbstractContextManager[None]) -> Iterator[None]:
        try:
            with disturbed:
                yield
        finally:
            self.machine.wait_for_plugin()
