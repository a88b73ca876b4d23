"""A libvirtd of our own, where the system runs none: started by hand, everything of it in the machine's folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from console.steps import Step
    from machines.place import Place
    from nodes.node import Node

HERE = Path(__file__).resolve().parent
NAME = "libvirtd"
POOL = "default"


def environment(_: Place) -> dict[str, str]:
    """Return what makes Vagrant and virsh use it."""
    return {"LIBVIRT_DEFAULT_URI": "qemu:///system", "COUNTERSIGN_POOL": POOL}


def steps(place: Place) -> list[Step[Node]]:
    """Return the steps that start it, with a pool for disks."""
    raise NotImplementedError


def start(place: Place) -> None:
    """Start it, if it does not run."""
    raise NotImplementedError


def stop(place: Place) -> None:
    """Stop it."""
    raise NotImplementedError
