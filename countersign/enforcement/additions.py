"""What a place is given beside enforcement: nothing, unless `tasks.py` offers a lab.

A lab brings registries under names that nobody else knows, the keys to sign with, and images to try. Runtimes take it
as an `Addition`; none of them knows what it is made of, and a user's own machine has `NOTHING`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from countersign.console.errors import MissingError, UsageError

if TYPE_CHECKING:
    from countersign.console.config import Settings
    from countersign.console.steps import Step
    from countersign.cri.model import Auth
    from countersign.enforcement.layout import Layout
    from countersign.nodes.node import Node
    from countersign.nodes.service import State
    from countersign.oci.registry import Registry


class Addition:
    """What one place is given; this one is nothing. All steps of it are this machine's."""

    @property
    def names(self) -> Sequence[str]:
        """The names of its registries; nobody is asked for them."""
        return ()

    @property
    def urls(self) -> Mapping[str, str]:
        """Registry name → where the nodes of the place reach it."""
        return {}

    @property
    def ca(self) -> bytes:
        """The certificate of the CA behind those that speak HTTPS, PEM."""
        return b""

    @property
    def logins(self) -> Mapping[str, Auth]:
        """Registry name → what is needed there, for those that want a login."""
        return {}

    @property
    def home(self) -> str:
        """The registry in which a set-up may put images of its own; empty for none."""
        return ""

    @property
    def services(self) -> Sequence[str]:
        """Its services on this machine, in the order in which they start; each has a log."""
        return ()

    def keys_to_come(self) -> bool:
        """Return whether `prepared` makes keys that a policy may name."""
        return False

    def prepared(self) -> Sequence[Step]:
        """Return what comes before everything else, the keys among it; nothing runs yet."""
        return ()

    def running(self) -> Sequence[Step]:
        """Return what makes its registries run and hold what set-up needs; builds what has to be built."""
        return ()

    def released(self) -> Sequence[Step]:
        """Return what leaves nothing of it on this machine, beside what goes with the runtime's own folder."""
        return ()

    def sandbox(self) -> str:
        """Return a sandbox image by digest, for nodes that have none; empty for none."""
        return ""

    def pushed(self, repository: str, tag: str, _layout: Path) -> Step:
        """Return the step by which an OCI layout lies in `home`. Raises MissingError where there is no registry."""
        raise MissingError("there is no registry to put it in", where=f"{repository}:{tag}", do="see lab.setup")

    def client(self) -> Registry:
        """Return a client of its registries, as this machine reaches them. Raises MissingError where there are none."""
        raise MissingError("there are no registries of a lab here", do="see lab.setup")

    def states(self) -> Sequence[State]:
        """Return how its services on this machine are."""
        return ()

    def log(self, name: str) -> Path:
        """Return where the log of a service is. Raises UsageError where it has none."""
        raise UsageError("there is no such log", where=name)

    def require_up(self) -> None:
        """Raise InfrastructureError unless those of its registries run that nobody else asks for."""

    def stopped(self, _registry: str) -> AbstractContextManager[None]:
        """Keep the registry of this name stopped."""
        return nullcontext()


NOTHING = Addition()


class Lab:
    """Gives every place its addition; this one has nothing to give."""

    @property
    def names(self) -> Sequence[str]:
        """The registry names that a machine over SSH may have been given."""
        return ()

    def for_host(self, _settings: Settings, _layout: Layout, _cgroup: str, _root: Path) -> Addition:
        """Return that of a private runtime of this host, with all that is its own below ``root``."""
        return NOTHING

    def for_cluster(self, _settings: Settings) -> Addition:
        """Return that of the Kind cluster."""
        return NOTHING

    def for_machine(self, _settings: Settings, _node: Node, _room: str, *, asked: bool) -> Addition:
        """Return that of a machine over SSH: only where it is asked for, or was at an earlier set-up.

        Args:
            settings: the user's.
            node: the machine.
            room: the runtime, which has it for itself.
            asked: the user wants it.

        Raises:
            UsageError: it is asked for, and there is none.
        """
        if asked:
            raise UsageError("there is no lab in this checkout", where="--demo", expected="the folder lab/")
        return NOTHING


_OFFERED: list[Callable[[], Lab]] = []


def offer(lab: Callable[[], Lab]) -> None:
    """Have every place of this process opened with a lab; it is called when the first place is."""
    _OFFERED[:] = [lab]


def offered() -> Lab:
    """Return the lab that was offered, or one that has nothing to give."""
    return _OFFERED[0]() if _OFFERED else Lab()


def credentials(addition: Addition, reference: str) -> Auth | None:
    """Return what a kubelet would pass on for an image of one of its registries."""
    return addition.logins.get(reference.partition("/")[0])
