"""The places where CRI-O can be; see `countersign.runtimes.place.Place`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from countersign.console.errors import UsageError
from countersign.enforcement.additions import offered
from machines.remote import is_remote, open_node

if TYPE_CHECKING:
    from countersign.console.config import Settings
    from countersign.runtimes.place import Place

PLACES = "host, vagrant or ssh://USER@HOST"


def open_place(settings: Settings, *, demo: bool = False) -> Place:
    """Return what the configured place is; ``auto`` means the Vagrant machine.

    Args:
        settings: the user's.
        demo: a machine over SSH is given what the lab has, too; this host is where there is one.

    Raises:
        UsageError: there is no such place.
    """
    if settings.node == "auto":
        settings = replace(settings, node="vagrant")
    if settings.node == "host":
        from countersign.runtimes.private import PrivatePlace
        from crio.private import instance

        return PrivatePlace(settings, offered(), instance(settings.state).named(settings))
    if is_remote(settings.node):
        from countersign.runtimes.remote import RemotePlace
        from crio.machine import Machine

        return RemotePlace(settings, open_node(settings), offered(), Machine, demo=demo)
    raise UsageError(f"got {settings.node!r}", where="node", expected=PLACES)
