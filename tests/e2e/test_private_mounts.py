"""Fixed paths of the machine, replaced for one service alone."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

import pytest

from nodes import service
from nodes.service import Service

pytestmark = [pytest.mark.root, pytest.mark.e2e]


@pytest.mark.parametrize("there", [True, False])
def test_what_a_service_writes_at_a_fixed_path_lands_in_our_folder(tmp_path, there):
    name = f"countersign-{secrets.token_hex(4)}"
    fixed = tmp_path / name if there else Path("/var/lib") / name / "deep"
    if there:
        fixed.mkdir()
    ours = tmp_path / "ours"
    ours.mkdir()
    table = Path("/proc/self/mountinfo").read_text()
    script = 'ls -A "$1" && ls /var/lib/dpkg/status && echo written > "$1/file" && touch "$2" && exec sleep 60'
    spec = Service(
        name="it",
        argv=("/bin/sh", "-ec", script, "sh", str(fixed), str(tmp_path / "done")),
        run=str(tmp_path),
        log=str(tmp_path / "log"),
        env={"PATH": "/usr/bin:/bin"},
        shadows={str(fixed): str(ours)},
    )
    service.start(spec)
    try:
        wait_for(tmp_path / "done", spec.log)
        assert (ours / "file").read_text() == "written\n"
        assert not (fixed / "file").exists()
        assert fixed.exists() == there
        assert Path("/proc/self/mountinfo").read_text() == table
    finally:
        service.stop(tmp_path, "it")


def wait_for(path: Path, log: str) -> None:
    deadline = time.monotonic() + 10
    while not path.exists():
        assert time.monotonic() < deadline, service.tail(log)
        time.sleep(0.01)
