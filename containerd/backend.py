"""What the tasks ask of a place; one module a kind of place answers: `on_host`, `on_kind`, `on_ssh`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from countersign.console.errors import UsageError
from countersign.enforcement.additions import offered
from countersign.enforcement.several import Places, opened
from machines.remote import is_remote

if TYPE_CHECKING:
    from collections.abc import Sequence

    from containerd.runtime import Runtime
    from countersign.console.config import Settings
    from countersign.console.steps import StepResult

PLACES = "host, kind, vagrant or ssh://USER@HOST"


class Backend(Protocol):
    """Containerd at one place, from set-up to clean."""

    @property
    def settings(self) -> Settings:
        """The configuration, with the place that was chosen."""

    def setup(self, *, keep: bool, plan: bool) -> list[StepResult]:
        """Bring it under enforcement and prove that; after a failure nothing half-done stays, unless ``keep``."""

    def require_up(self) -> None:
        """Raise InfrastructureError unless everything runs."""

    def runtime(self) -> Runtime:
        """Return the runtime of one node that is under enforcement: the node that trials use."""

    def members(self) -> Sequence[Runtime]:
        """Return every node, to be looked at and given a policy; nothing is asked of its containerd."""

    def report(self) -> dict[str, Any]:
        """Return the document of ``containerd.status --json``; ``ok`` is true when nothing is amiss."""

    def log(self, name: str) -> bytes:
        """Return a log. Raises UsageError when there is none of that name."""

    def clean(self, *, plan: bool) -> list[StepResult]:
        """Take it all away again."""


def open_places(settings: Settings, *, demo: bool = False) -> Places[Backend]:
    """Return the configured places, whose names have commas between them; arguments and errors as in `open_place`."""
    return opened(settings, "containerd", lambda one: open_place(one, demo=demo))


def open_place(settings: Settings, *, demo: bool = False) -> Backend:
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
        from containerd.on_host import OnHost

        return OnHost(settings, offered())
    if settings.node == "kind":
        from containerd.on_kind import OnKind

        return OnKind(settings, offered())
    if is_remote(settings.node):
        from containerd.on_ssh import OnSsh

        return OnSsh(settings, offered(), demo=demo)
    raise UsageError(f"got {settings.node!r}", where="node", expected=PLACES)


def automatic(settings: Settings) -> str:
    """Return the place that ``auto`` means on this machine."""
    from kind.engine import why_not

    return "host" if why_not(settings) else "kind"
