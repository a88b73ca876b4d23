"""How a runtime and its gate are kept running: by systemd on a node, or by our own supervisors on this host."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from countersign.console.errors import UsageError
from countersign.enforcement.node_units import KUBELET, Units, kubelet_paused
from countersign.enforcement.report import ServiceState, of_service, of_unit
from countersign.enforcement.supervised import Supervised
from countersign.nodes.host import HOST
from countersign.nodes.systemd import unit_state

if TYPE_CHECKING:
    from collections.abc import Sequence

    from countersign.enforcement.additions import Addition
    from countersign.enforcement.layout import Layout
    from countersign.enforcement.runtime import Controls
    from countersign.nodes.node import Node
    from countersign.nodes.service import State

JOURNAL_LINES = 10000


class Keeper(Protocol):
    """Keeps a runtime and its gate running."""

    def controls(self, answers: Callable[[], object]) -> Controls:
        """Return the services, to be disturbed; ``answers`` returns once the runtime answers over CRI."""

    def states(self) -> list[ServiceState]:
        """Return how each service is, those that the place is given beside enforcement too."""

    def undisturbed(self) -> AbstractContextManager[None]:
        """Keep away whatever would remove pods that nobody but us knows of."""

    def log(self, name: str) -> bytes:
        """Return the end of a log. Raises UsageError when there is none of that name."""


@dataclass(frozen=True)
class BySystemd:
    """See `Keeper`: units of the node.

    Attributes:
        node: the node.
        layout: where the gate's parts lie there.
        units: log's name → unit, the runtime's first.
        addition: what the place is given beside enforcement; its services are this machine's.
        setup: the command that makes missing logs.
    """

    node: Node
    layout: Layout
    units: Mapping[str, str]
    addition: Addition = field(repr=False)
    setup: str

    def controls(self, answers: Callable[[], object]) -> Controls:
        """See `Keeper.controls`."""
        return Units(self.node, self.addition.stopped, answers, next(iter(self.units.values())))

    def states(self) -> list[ServiceState]:
        """See `Keeper.states`; a kubelet counts where one is enabled."""
        kubelet = [KUBELET] if unit_state(self.node, KUBELET).enabled else []
        beside = [of_service(found) for found in self.addition.states()]
        return [*beside, *(of_unit(self.node, unit) for unit in (*self.units.values(), *kubelet))]

    def undisturbed(self) -> AbstractContextManager[None]:
        """See `Keeper.undisturbed`."""
        return kubelet_paused(self.node)

    def log(self, name: str) -> bytes:
        """See `Keeper.log`."""
        units = {**self.units, "kubelet": KUBELET}
        known(name, (*units, *self.addition.services, "verdicts"))
        if name in self.addition.services:
            return there(str(self.addition.log(name)), self.setup)
        if name == "verdicts":
            return self.node.run(["tail", "-n", str(JOURNAL_LINES), self.layout.verdicts]).stdout
        journal = ["journalctl", f"--unit={units[name]}", "--no-pager", f"--lines={JOURNAL_LINES}"]
        return self.node.run(journal).stdout


@dataclass(frozen=True)
class BySupervisors:
    """See `Keeper`: services of this host.

    Attributes:
        layout: where everything lies.
        runtime: the runtime's service.
        addition: what the place is given beside enforcement.
        services: how each of them is.
        setup: the command that makes missing logs.
    """

    layout: Layout
    runtime: str
    addition: Addition = field(repr=False)
    services: Sequence[State] = field(repr=False)
    setup: str

    def controls(self, _answers: Callable[[], object]) -> Controls:
        """See `Keeper.controls`: a service that has started is ready."""
        return Supervised(Path(self.layout.run), self.addition.stopped, self.runtime)

    def states(self) -> list[ServiceState]:
        """See `Keeper.states`."""
        return [of_service(found) for found in self.services]

    def undisturbed(self) -> AbstractContextManager[None]:
        """See `Keeper.undisturbed`: nobody else knows of this runtime."""
        return nullcontext()

    def log(self, name: str) -> bytes:
        """See `Keeper.log`."""
        known(name, (*(found.name for found in self.services), "verdicts"))
        return there(self.layout.verdicts if name == "verdicts" else f"{self.layout.log}/{name}.log", self.setup)


def known(name: str, names: Sequence[str]) -> None:
    """Raise UsageError unless a log's name is one of those that there are."""
    if name not in names:
        raise UsageError(f"got {name!r}", where="--name", expected=", ".join(names))


def there(path: str, setup: str) -> bytes:
    """Return a log of this machine. Raises UsageError when it was not written yet."""
    if not Path(path).is_file():
        raise UsageError("there is no such log yet", where=path, do=f"run {setup}")
    return HOST.get(path)
