"""The services of a private runtime, which our own supervisor keeps running on this machine."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from countersign.console.errors import InfrastructureError
from countersign.nodes import service
from countersign.nodes.service import Service
from countersign.nodes.waiting import wait_for


@dataclass(frozen=True)
class Supervised:
    """See `countersign.enforcement.runtime.Controls`.

    Attributes:
        run: where the supervisors keep their files.
        registry_stopped: keeps a registry of a lab stopped, by its name.
    """

    run: Path
    registry_stopped: Callable[[str], AbstractContextManager[None]]
    runtime: str = "containerd"

    @contextmanager
    def gate_stopped(self) -> Iterator[None]:
        """Kill the gate and hold its supervisor; let go, and it comes back by itself."""
        supervisor = service.state(self.run, "gate").supervisor
        if supervisor is None or not supervisor.send(signal.SIGSTOP):
            raise InfrastructureError("is not supervised", where="gate")
        killed = self._child("gate")
        service.signal_child(self.run, "gate", signal.SIGKILL)
        try:
            yield
        finally:
            supervisor.send(signal.SIGCONT)
            self._await_another("gate", killed)

    @contextmanager
    def gate_hung(self) -> Iterator[None]:
        """See `Controls.gate_hung`."""
        frozen = self._child("gate")
        service.signal_child(self.run, "gate", signal.SIGSTOP)
        try:
            yield
        finally:
            self._await_another("gate", frozen)

    def gate_renewed(self, meanwhile: Callable[[], object]) -> None:
        """See `Controls.gate_renewed`."""
        spec = self._spec("gate")
        service.stop(self.run, "gate")
        meanwhile()
        service.start(spec)

    def restart_runtime(self) -> None:
        """See `Controls.restart_runtime`."""
        spec = self._spec(self.runtime)
        service.stop(self.run, self.runtime)
        service.start(spec)

    def _spec(self, name: str) -> Service:
        return Service.from_json((self.run / f"{name}.json").read_text(encoding="utf-8"))

    def _child(self, name: str) -> int:
        child = service.state(self.run, name).child
        return child.pid if child else 0

    def _await_another(self, name: str, old: int) -> None:
        def back() -> bool:
            found = service.state(self.run, name)
            return found.state == "running" and found.child is not None and found.child.pid != old

        wait_for(back, f"{name} did not come back by itself")
