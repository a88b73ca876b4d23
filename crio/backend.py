"""What the tasks ask of a place; one module a kind of place answers: `on_host`, `on_ssh`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from countersign.console.errors import UsageError
from countersign.enforcement.additions import offered
from countersign.enforcement.several import Places, opened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from countersign.console.config import Settings
    from countersign.console.steps import StepResult
    from crio.machine import Machine

PLACES = "host, vagrant or ssh://USER@HOST"


class Backend(Protocol):
    """CRI-O at one place, from set-up to clean."""

    @property
    def settings(self) -> Settings:
        """The configuration, with the place that was chosen."""

    def configure(self, *, keep: bool, plan: bool) -> list[StepResult]:
        """Bring it under enforcement and prove that; after a failure nothing half-done stays, unless ``keep``."""

    def machine(self) -> Machine:
        """Return the CRI-O. Raises InfrastructureError when it was never configured."""

    def members(self) -> Sequence[Machine]:
        """Return every node, to be looked at and given a policy."""

    def clean(self, *, plan: bool) -> list[StepResult]:
        """Take it all away again."""

    def report(self) -> dict[str, Any]:
        """Return the document of ``crio.status --json``; ``ok`` is true when nothing is amiss."""


def open_places(settings: Settings, *, demo: bool = False) -> Places[Backend]:
    """Return the configured places, whose names have commas between them; arguments and errors as in `open_place`."""
    return opened(settings, "crio", lambda one: open_place(one, demo=demo))


def open_place(settings: Settings, *, demo: bool = False) -> Backend:
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
        from crio.on_host import OnHost

        return OnHost(settings, offered())
    if settings.node == "vagrant" or settings.node.startswith("ssh://"):
        from crio.on_ssh import OnSsh

        return OnSsh(settings, offered(), demo=demo)
    raise UsageError(f"got {settings.node!r}", where="node", expected=PLACES)
