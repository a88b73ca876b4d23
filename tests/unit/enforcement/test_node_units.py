"""How trials restart a runtime that is systemd's."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from countersign.enforcement.node_units import Units


def test_a_restart_is_not_one_too_many_for_systemd() -> None:
    """Several within seconds would end in ``start-limit-hit``, so the count is set back first."""
    ran: list[list[str]] = []
    node: Any = SimpleNamespace(run=ran.append)
    units: Any = SimpleNamespace(node=node, runtime="containerd.service", answers=lambda: ran.append(["answers"]))
    units._systemctl = lambda *arguments: Units._systemctl(units, *arguments)
    Units.restart_runtime(units)
    assert ran == [
        ["systemctl", "reset-failed", "containerd.service"],
        ["systemctl", "restart", "containerd.service"],
        ["answers"],
    ]
