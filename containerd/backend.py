"""The places where containerd can be; see `countersign.runtimes.place.Place`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from countersign.console.errors import UsageError
from countersign.enforcement.additions import offered
from machines.remote import is_remote, open_node

if TYPE_CHECKING:
    from countersign.console.config import Settings
    from countersign.runtimes.place import Place

PLACES = "host, kind, vagrant or ssh://USER@HOST"


def open_place(settings: Settings, *, demo: bool = False) -> Place:
    """Return what the configured place is; ``auto`` means Kind where a Docker Engine answers, else this host.

    Args:
        settings: the user's.
        demo: a machine over SSH is given what the lab has, too; this host and Kind are where there is one.

    Raises:
        UsageError: there is no such place.
    """
    if settings.node == "auto":
        settings = replace(settings, node=automatic(settings))
    if settings.node == "host":
        from containerd.instance import instance
        from countersign.runtimes.private import PrivatePlace

        return PrivatePlace(settings, offered(), instance(settings.state))
    if settings.node == "kind":
        from containerd.on_kind import OnKind

        return OnKind(settings, offered())
    if is_remote(settings.node):
        from containerd.machine import Machine
        from countersign.runtimes.remote import RemotePlace

        return RemotePlace(settings, open_node(settings), offered(), Machine, demo=demo)
    raise UsageError(f"got {settings.node!r}", where="node", expected=PLACES)


def automatic(settings: Settings) -> str:
    """Return the place that ``auto`` means on this machine."""
    from kind.engine import why_not

    return "host" if why_not(settings) else "kind"
