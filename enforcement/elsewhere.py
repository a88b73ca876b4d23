"""The machine that the configured place is, where that is one over SSH."""

from __future__ import annotations

from typing import TYPE_CHECKING

from console.errors import InfrastructureError

if TYPE_CHECKING:
    from pathlib import Path

    from console.config import Settings
    from nodes.ssh import SshNode

VAGRANT = "vagrant"


def is_elsewhere(place: str) -> bool:
    """Return whether a place is a machine over SSH: ``vagrant``, or a URL."""
    return place == VAGRANT or "://" in place


def open_node(settings: Settings) -> SshNode:
    """Return the machine of the place ``vagrant`` or ``ssh://…``; it is connected to when it is first used.

    Raises:
        UsageError: the URL is none of ours.
        InfrastructureError: the Vagrant machine is not up.
    """
    from nodes import connect

    if settings.node != VAGRANT:
        return connect.ssh(settings.node, settings)
    from importlib import import_module

    config: Path = import_module("machines.vagrant").ssh_config(settings)
    return connect.from_config(_alias(config), config, settings)


def _alias(config: Path) -> str:
    """Return the first host that an ssh-config describes."""
    for line in config.read_text(encoding="utf-8").splitlines():
        words = line.split()
        if len(words) > 1 and words[0].lower() == "host":
            return words[1]
    raise InfrastructureError("describes no machine", where=str(config))
