"""Fixed paths of the machine, replaced for one service alone."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

import pytest

from countersign.nodes import cgroup, service
from countersign.nodes.service import Service

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


@pytest.mark.parametrize("left", [True, False])
def test_what_a_service_mounted_is_there_after_its_restart_while_something_of_it_runs(tmp_path, left):
    name = f"countersign-{secrets.token_hex(4)}"
    fixed, ours, point = (tmp_path / each for each in ("fixed", "ours", "point"))
    for folder in (fixed, ours, point):
        folder.mkdir()
    script = """
        touch "$1/seen-$(ls "$2" | wc -l)"
        [ "$(ls "$2" | wc -l)" = 1 ] || { mount -t tmpfs pod "$2" && touch "$2/netns"; }
        [ -z "$3" ] || setsid sleep 60 &
        touch "$1/ready"
        exec sleep 60
    """
    spec = Service(
        name="it",
        argv=("/bin/sh", "-ec", script, "sh", str(fixed), str(point), "left" if left else ""),
        run=str(tmp_path),
        log=str(tmp_path / "log"),
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        cgroup=name,
        shadows={str(fixed): str(ours)},
    )
    try:
        service.start(spec)
        wait_for(ours / "ready", spec.log)
        service.stop(tmp_path, "it")
        (ours / "seen-0").unlink()
        service.start(spec)
        wait_for(ours / ("seen-1" if left else "seen-0"), spec.log)
        assert list(point.iterdir()) == []
        assert list(fixed.iterdir()) == []
    finally:
        service.stop(tmp_path, "it")
        cgroup.destroy(name)
