"""The machine that the configured place is, where that is one over SSH."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from countersign.console.errors import InfrastructureError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from countersign.console.config import Settings
    from countersign.nodes.ssh import SshNode

VAGRANT = "vagrant"


def is_remote(place: str) -> bool:
    """Return whether a place is a machine over SSH: ``vagrant``, or a URL."""
    return place == VAGRANT or "://" in place


def brought_up(settings: Settings, *, plan: bool) -> SshNode | None:
    """Return the one machine that a place names (``auto``: the Vagrant machine, which is brought up first).

    Args:
        settings: the user's.
        plan: list the steps and change nothing; then there may be none yet, which is None.

    Raises:
        UsageError: the place is not a machine, or several.
        MissingError: this host cannot do it.
    """
    if settings.node == "auto":
        settings = replace(settings, node=VAGRANT)
    if not is_remote(settings.node) or "," in settings.node:
        raise UsageError(f"got {settings.node!r}", where="--on", expected="vagrant or one ssh://USER@HOST")
    if settings.node == VAGRANT:
        from machines import vagrant

        vagrant.up(settings, plan=plan)
        if plan and vagrant.state(settings) != "running":
            return None
    return open_node(settings)


_OPEN: dict[tuple[str, str], SshNode] = {}
"""The machines of this process: tasks after one another share a connection, and what is exposed over it."""


def open_node(settings: Settings) -> SshNode:
    """Return the machine of the place ``vagrant`` or ``ssh://…``; it is connected to when it is first used.

    Raises:
        UsageError: the URL is none of ours.
        InfrastructureError: the Vagrant machine is not up.
    """
    name = settings.vagrant.machine if settings.node == VAGRANT else settings.node
    known = (str(settings.state), name)
    if known not in _OPEN:
        _OPEN[known] = _opened(settings)
    return _OPEN[known]


def _opened(settings: Settings) -> SshNode:
    from countersign.nodes import connect

    if settings.node != VAGRANT:
        return connect.ssh(settings.node, settings)
    from machines.vagrant import ssh_config

    config = ssh_config(settings)
    return connect.from_config(_alias(config), config, settings)


def _alias(config: Path) -> str:
    """Return the first host that an ssh-config describes."""
    for line in config.read_text(encoding="utf-8").splitlines():
        words = line.split()
        if len(words) > 1 and words[0].lower() == "host":
            return words[1]
    raise InfrastructureError("describes no machine", where=str(config))
