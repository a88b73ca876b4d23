"""A CRI-O under enforcement, wherever and however it is kept running; see `countersign.enforcement.runtime.Runtime`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from countersign.console.errors import InfrastructureError
from countersign.cri.errors import CriError
from countersign.enforcement import additions, nri, policy
from countersign.nodes.waiting import wait_for
from crio.effective import Effective, effective
from crio.paths import Paths

if TYPE_CHECKING:
    from countersign.cri.client import Client
    from countersign.cri.model import Auth
    from countersign.enforcement.additions import Addition
    from countersign.enforcement.layout import Layout
    from countersign.enforcement.report import ServiceState
    from countersign.enforcement.runtime import Controls
    from countersign.nodes.node import Node
    from crio.render import Engine

ANSWERS_WITHIN = 120.0
"""Seconds within which a CRI-O that was started answers; an emulated machine takes one of them."""


@dataclass(frozen=True)
class Ways:
    """What differs with the way in which CRI-O is kept running.

    Attributes:
        controls: the services around it, to be disturbed.
        services: how each of them is.
        undisturbed: keeps away whatever would remove pods that trials make.
        log: returns the end of a service's log (``crio``, ``gate``).
    """

    controls: Callable[[Machine], Controls] = field(repr=False)
    services: Callable[[Machine], list[ServiceState]] = field(repr=False)
    undisturbed: Callable[[Machine], AbstractContextManager[None]] = field(repr=False)
    log: Callable[[Machine, str], bytes] = field(repr=False)


@dataclass(frozen=True)
class Machine:
    """One CRI-O.

    Attributes:
        state: the state folder on this machine.
        node: where it runs.
        layout: where the gate's parts lie there.
        paths: where CRI-O's own files lie there.
        crio: its program there.
        handlers: its runtime handlers, the default one first.
        pins: the file on this machine with what set-up pinned.
        addition: what it is given beside enforcement.
        engine: how strict its own engine is.
        ways: what differs with how it is kept running.
        cgroup_parent: of pods that trials make.
        tags: names by tag of what set-up pinned, which its own engine lets pass.
    """

    state: Path
    node: Node
    layout: Layout
    paths: Paths
    crio: str
    handlers: Sequence[str]
    pins: Path
    addition: Addition = field(repr=False)
    engine: Engine
    ways: Ways = field(repr=False)
    cgroup_parent: str = ""
    tags: Sequence[str] = ()

    @property
    def registry_names(self) -> Sequence[str]:
        """See `Runtime.registry_names`."""
        return self.addition.names

    def client(self, timeout: float = 60) -> Client:
        """See `Runtime.client`."""
        from countersign.cri.client import Client

        return Client(
            self.node.forward(self.paths.socket),
            cgroup_parent=self.cgroup_parent,
            log_directory=f"{self.layout.log}/pods",
            read=self.node.get,
            timeout=timeout,
        )

    def pinned(self) -> list[str]:
        """See `Runtime.pinned`."""
        return policy.read_pins(self.pins)

    def credentials(self, reference: str) -> Auth | None:
        """See `Runtime.credentials`."""
        return additions.credentials(self.addition, reference)

    def controls(self) -> Controls:
        """See `Runtime.controls`."""
        return self.ways.controls(self)

    def undisturbed(self) -> AbstractContextManager[None]:
        """See `Runtime.undisturbed`."""
        return self.ways.undisturbed(self)

    def kept(self) -> Sequence[str]:
        """See `Runtime.kept`."""
        ours = self.layout
        return (ours.verdicts, ours.gate_config, ours.policy, self.paths.policy, self.paths.drop_in, self.paths.hook)

    def effective(self) -> Effective:
        """Return the configuration that is in effect."""
        return effective(self.node, self.crio, self.paths.socket)

    def require_up(self) -> None:
        """See `Runtime.require_up`."""
        for each in self.ways.services(self):
            if not each.up:
                raise InfrastructureError(
                    f"{each.name} is {each.state}", where=each.node, do="run ./inv crio.configure"
                )

    def wait_until_it_answers(self) -> None:
        """Return once CRI-O answers over CRI. Raises InfrastructureError when it does not in time."""
        with self.client(timeout=5) as client:

            def answers() -> bool:
                try:
                    return bool(client.version().version)
                except CriError:
                    return False

            wait_for(answers, f"CRI-O on {self.node.name} did not answer over CRI", ANSWERS_WITHIN, pause=0.05)

    def wait_for_plugin(self) -> None:
        """Return once CRI-O asks the gate as its NRI plugin; before that it makes no container at all."""
        nri.wait_for_plugin(self.node, self.layout, ANSWERS_WITHIN)

    def nri(self) -> str:
        """Return a line about CRI-O's NRI."""
        return nri.told(self.node, self.layout, self.crio)

    def wait_until_ready(self) -> None:
        """Return once containers can be made."""
        self.wait_until_it_answers()
        self.wait_for_plugin()
