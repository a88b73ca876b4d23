"""What a place is given beside enforcement: nothing, unless `tasks.py` offers a lab.

A lab brings registries under names that nobody else knows, the keys to sign with, and images to try. Runtimes take it
as an `Addition`; none of them knows what it is made of, and a user's own machine has `NOTHING`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from countersign.console.errors import MissingError, UsageError

if TYPE_CHECKING:
    from countersign.console.config import Settings
    from countersign.console.steps import Step
    from countersign.cri.model import Auth
    from countersign.enforcement.layout import Layout
    from countersign.nodes.node import Node
    from countersign.nodes.service import State
    from countersign.oci.registry import Registry


class Addition(Protocol):
    """What one place is given. All steps of it are this machine's."""

    @property
    def names(self) -> Sequence[str]:
        """The names of its registries; nobody is asked for them."""

    @property
    def urls(self) -> Mapping[str, str]:
        """Registry name → where the nodes of the place reach it."""

    @property
    def ca(self) -> bytes:
        """The certificate of the CA behind those that speak HTTPS, PEM."""

    @property
    def logins(self) -> Mapping[str, Auth]:
        """Registry name → what is needed there, for those that want a login."""

    @property
    def home(self) -> str:
        """The registry in which a set-up may put images of its own; empty for none."""

    @property
    def services(self) -> Sequence[str]:
        """Its services on this machine, in the order in which they start; each has a log."""

    def keys_to_come(self) -> bool:
        """Return whether `prepared` makes keys that a policy may name."""

    def prepared(self) -> Sequence[Step]:
        """Return what comes before everything else, the keys among it; nothing runs yet."""

    def running(self) -> Sequence[Step]:
        """Return what makes its registries run and hold what set-up needs; builds what has to be built."""

    def released(self) -> Sequence[Step]:
        """Return what leaves nothing of it on this machine."""

    def sandbox(self) -> str:
        """Return a sandbox image by digest, for nodes that have none; empty for none."""

    def pushed(self, repository: str, tag: str, layout: Path) -> Step:
        """Return the step by which an OCI layout lies in `home`."""

    def client(self) -> Registry:
        """Return a client of its registries, as this machine reaches them."""

    def states(self) -> Sequence[State]:
        """Return how its services on this machine are."""

    def log(self, name: str) -> Path:
        """Return where the log of a service is."""

    def require_up(self) -> None:
        """Raise InfrastructureError unless its registries run."""

    def stopped(self, registry: str) -> AbstractContextManager[None]:
        """Keep the registry of this name stopped."""


class Lab(Protocol):
    """Gives every place its addition."""

    @property
    def names(self) -> Sequence[str]:
        """The registry names that a machine over SSH may have been given."""

    def for_host(self, settings: Settings, layout: Layout, cgroup: str, root: Path) -> Addition:
        """Return that of a private runtime of this host, with all that is its own below ``root``."""

    def for_cluster(self, settings: Settings) -> Addition:
        """Return that of the Kind cluster."""

    def for_machine(self, settings: Settings, node: Node, room: str, *, asked: bool) -> Addition:
        """Return that of a machine over SSH: only where it is asked for, or was at an earlier set-up.

        Args:
            room: the runtime, which has it for itself.
            asked: the user wants it.

        Raises:
            UsageError: it is asked for, and there is none.
        """


@dataclass(frozen=True)
class Nothing:
    """See `Addition`: no registries, keys or images."""

    names: Sequence[str] = ()
    urls: Mapping[str, str] = field(default_factory=dict)
    logins: Mapping[str, Auth] = field(default_factory=dict)
    ca: bytes = b""
    home: str = ""
    services: Sequence[str] = ()

    def keys_to_come(self) -> bool:
        """Return that no keys are made."""
        return False

    def prepared(self) -> Sequence[Step]:
        """Return no step."""
        return ()

    running = released = prepared

    def sandbox(self) -> str:
        """Return none."""
        return ""

    def pushed(self, repository: str, tag: str, _layout: Path) -> Step:
        """Raise MissingError: there is no registry."""
        raise MissingError("there is no registry to put it in", where=f"{repository}:{tag}", do="see lab.setup")

    def client(self) -> Registry:
        """Raise MissingError: there is no registry."""
        raise MissingError("there are no registries of a lab here", do="see lab.setup")

    def states(self) -> Sequence[State]:
        """Return none."""
        return ()

    def log(self, name: str) -> Path:
        """Raise UsageError: there is none."""
        raise UsageError("there is no such log", where=name)

    def require_up(self) -> None:
        """Return: nothing has to run."""

    def stopped(self, _registry: str) -> AbstractContextManager[None]:
        """Return what does nothing."""
        return nullcontext()


NOTHING = Nothing()


@dataclass(frozen=True)
class NoLab:
    """See `Lab`: there is none, so every place has `NOTHING`."""

    names: Sequence[str] = ()

    def for_host(self, _settings: Settings, _layout: Layout, _cgroup: str, _root: Path) -> Addition:
        """Return nothing."""
        return NOTHING

    def for_cluster(self, _settings: Settings) -> Addition:
        """Return nothing."""
        return NOTHING

    def for_machine(self, _settings: Settings, _node: Node, _room: str, *, asked: bool) -> Addition:
        """Return nothing."""
        if asked:
            raise UsageError("there is no lab in this checkout", where="--demo", expected="the folder lab/")
        return NOTHING


_OFFERED: list[Callable[[], Lab]] = []


def offer(lab: Callable[[], Lab]) -> None:
    """Have every place of this process opened with a lab; it is called when the first place is."""
    _OFFERED[:] = [lab]


def offered() -> Lab:
    """Return the lab that was offered, or `NoLab`."""
    return _OFFERED[0]() if _OFFERED else NoLab()


def credentials(addition: Addition, reference: str) -> Auth | None:
    """Return what a kubelet would pass on for an image of one of its registries."""
    return addition.logins.get(reference.partition("/")[0])
