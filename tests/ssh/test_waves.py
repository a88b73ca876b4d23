"""Fifty machines over real SSH, in waves: the first failures end it, and the same command goes on with the rest."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from countersign.console.config import Settings
from countersign.console.errors import InfrastructureError
from countersign.enforcement import several
from countersign.nodes import connect
from tests.ssh.machine import Sshd

NAMES = [f"m{number:02}" for number in range(50)]


def test_fifty_machines_in_waves(sshd: Sshd, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each name leads to the one sshd; what is set up is a file of its name, and one machine has a folder there."""
    config = tmp_path / "ssh-config"
    config.write_text(f"Host m*\n  HostName 127.0.0.1\n  Port {sshd.port}\n  User root\n")
    machines = tmp_path / "machines"
    machines.mkdir()
    (machines / "m23").mkdir()
    settings = replace(Settings(), node=",".join(f"ssh://root@{name}" for name in NAMES), state=tmp_path)
    places: several.Places[Any] = several.opened(settings, "containerd", lambda one: SimpleNamespace(settings=one))

    def work(place: Any) -> bool:
        name = place.settings.node.rpartition("@")[2]
        with closing(connect.from_config(name, config, place.settings)) as node:
            return node.put(b"set up", f"{machines}/{name}")

    told: list[several.Came[bool]] = []
    with pytest.raises(InfrastructureError, match="1 of 50 machines were not set up, 20 not begun"):
        places.set_up("set up", work, plan=False, wave=10, tell=told.append)
    assert [one["state"] for one in told[0].machines()] == [
        *["done"] * 23,
        "failed",
        *["done"] * 6,
        *["not begun"] * 20,
    ]
    assert sorted(each.name for each in machines.iterdir()) == NAMES[:30]
    shown = capsys.readouterr().err
    assert [shown.count(word) for word in ("✓ set up", "✗", "- not begun")] == [29, 1, 20]
    (machines / "m23").rmdir()
    changed = places.set_up("set up", work, plan=False, wave=10)
    assert [name.rpartition("@")[2] for name, was in changed.items() if was] == [NAMES[23], *NAMES[30:]]
    assert not any(places.set_up("set up", work, plan=False, wave=10).values())
