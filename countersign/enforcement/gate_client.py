"""Questions to the gate over its socket: one request a connection (gate/internal/wire)."""

from __future__ import annotations

import json
import socket
from typing import Any

from countersign.console.errors import InfrastructureError, cause
from countersign.enforcement.layout import Layout
from countersign.nodes.node import Node

LIMIT = 1 << 20


class GateDown(InfrastructureError):
    """The gate does not answer."""


def request(node: Node, layout: Layout, operation: str, body: dict[str, Any] | None = None, timeout: float = 10) -> Any:
    """Ask the gate of a node and return its verdict, the JSON document of package verdict.

    Args:
        node: where the gate runs.
        layout: where its socket is.
        operation: ``ping``, ``verify`` or ``explain``; ``create`` and ``pull`` are the runtime's.
        body: the request's JSON.
        timeout: seconds for the whole exchange.

    Raises:
        GateDown: it cannot be reached, or gives no answer that can be read.
    """
    path = node.forward(layout.gate_socket).removeprefix("unix:")
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout)
            connection.connect(path)
            connection.sendall(f"{operation}\n{json.dumps(body) if body else ''}".encode())
            connection.shutdown(socket.SHUT_WR)
            with connection.makefile("rb") as stream:
                answer = stream.read(LIMIT)
        return json.loads(answer.split(b"\n", 2)[2])
    except (OSError, ValueError, IndexError) as error:
        raise GateDown(f"the gate does not answer ({cause(error)})", where=layout.gate_socket) from None
