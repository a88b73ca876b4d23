"""What the gate says of itself, and what the machine is."""

from __future__ import annotations

import http.client
import os
import platform
import re
import socket
from pathlib import Path
from typing import Any

from countersign.console.errors import InfrastructureError

TIMEOUT = 5.0
VERIFICATIONS = "countersign_verifications_total"
RESIDENT = "process_resident_memory_bytes"
CPUINFO = Path("/proc/cpuinfo")
SAMPLE = re.compile(r"^(?P<name>[a-z_:][a-z0-9_:]*) (?P<value>\S+)$", re.MULTILINE)


def metrics(path: str) -> dict[str, float]:
    """Return the gate's metrics that have no labels (Prometheus text format), by name.

    Args:
        path: the unix socket where it serves them.

    Raises:
        InfrastructureError: it does not.
    """
    connection = http.client.HTTPConnection("localhost", timeout=TIMEOUT)
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.settimeout(TIMEOUT)
        connection.sock.connect(path)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    except (OSError, http.client.HTTPException) as error:
        raise InfrastructureError(f"no metrics ({error})", where=path) from error
    finally:
        connection.close()
    return parse(text)


def parse(text: str) -> dict[str, float]:
    """Return name → value of the samples without labels in Prometheus' text format."""
    return {found["name"]: float(found["value"]) for found in SAMPLE.finditer(text)}


def verifications(path: str) -> int:
    """Return how many judgements verified a signature since the gate started."""
    return int(metrics(path)[VERIFICATIONS])


def machine() -> dict[str, Any]:
    """Return what the figures depend on: processor, cores, kernel, and how busy it was in the last minute."""
    model = re.search(r"^model name\s*: (.+)$", CPUINFO.read_text(encoding="utf-8"), re.MULTILINE)
    return {
        "cpu": model[1] if model else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "load": load(),
    }


def load() -> float:
    """Return how many processes wanted to run in the last minute, on average."""
    return round(os.getloadavg()[0], 1)
