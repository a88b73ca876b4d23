"""The gate as a required plugin of containerd's NRI: no container is made without the hook, or without the gate."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from countersign.enforcement.gate_client import GateDown, request
from countersign.nodes.waiting import wait_for

if TYPE_CHECKING:
    from countersign.enforcement.layout import Layout
    from countersign.nodes.node import Node

NRI = "io.containerd.nri.v1.nri"
VALIDATOR_SINCE = (2, 2)
"""The first containerd whose NRI can require a plugin, and refuse what a plugin finds wrong."""
FAILS_REQUESTS_SINCE = (0, 12, 4)
"""The first NRI that acts on the plugin's failure policy."""
DEFAULT_SOCKET = "/var/run/nri/nri.sock"
CONNECTED, OFF = "connected", "off"


def socket(effective: Mapping[str, Any], version: tuple[int, ...]) -> str:
    """Return the socket at which plugins register, or an empty text where containerd can't require any.

    Args:
        effective: containerd's configuration in effect.
        version: of containerd.
    """
    if version < VALIDATOR_SINCE:
        return ""
    return str(effective.get("plugins", {}).get(NRI, {}).get("socket_path") or DEFAULT_SOCKET)


def told(node: Node, layout: Layout, program: str) -> str:
    """Return one line about the NRI that a runtime's program was built with, and what follows for a gate that hangs."""
    script = 'exec "$0" nri-version "$(command -v "$1")"'
    found = node.run(["sh", "-c", script, layout.gate, program], check=False).text
    version = re.fullmatch(r"v(\d+)\.(\d+)\.(\d+)\S*", found)
    if version is None:
        return f"{node.name}: which NRI {program} was built with can't be told"
    if tuple(map(int, version.groups())) >= FAILS_REQUESTS_SINCE:
        return f"{node.name}: NRI {found} fails what a hung gate does not answer"
    return f"{node.name}: NRI {found} lets the gate's own validation fail what a hung gate does not answer"


def wait_for_plugin(node: Node, layout: Layout, within: float) -> None:
    """Return once the runtime asks the gate as its NRI plugin; before that it makes no container at all.

    The gate knows a moment before the runtime that it is registered, so it has to say so twice.
    A gate that is not a plugin, on a containerd that is too old, is not waited for.

    Raises:
        InfrastructureError: it did not within so many seconds.
    """
    said = 0

    def connected() -> bool:
        nonlocal said
        try:
            state = request(node, layout, "ping").get("nri")
        except GateDown:
            state = ""
        said = said + 1 if state == CONNECTED else 0
        return state == OFF or said > 1

    wait_for(connected, f"the gate on {node.name} is not the runtime's NRI plugin", within, pause=0.05)
