"""The program of ours that the services are: vetted and tested here, for what it needs takes minutes to compile."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest

from countersign.console.config import ROOT, Settings
from countersign.nodes import service
from countersign.tools.resolver import tool
from countersign.tools.toolchain import go_environment
from signing.stack import services
from signing.stack.place import Stack

pytestmark = pytest.mark.interop
LISTENING = "0A"


@pytest.mark.timeout(1200)
def test_its_go_code_is_sound(settings: Settings) -> None:
    folder, go = ROOT / "shared" / "sigstore", tool("go", settings)
    environment = go_environment(settings.cache, settings.offline)
    untidy = subprocess.run([go.parent / "gofmt", "-l", "."], cwd=folder, capture_output=True, text=True, check=True)
    assert untidy.stdout == ""
    for verb in ("vet", "test"):
        done = subprocess.run([go, verb, "."], cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_listens_beyond_loopback(stack: Stack) -> None:
    for each in services.states(stack):
        assert each.child, each.name
        for address in listening(each.child.pid):
            assert address.startswith("127."), f"{each.name} listens on {address}"


def listening(pid: int) -> list[str]:
    """Return the addresses that a process listens at (proc(5), ``net/tcp``)."""
    fds = (str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir())
    inodes = {name.removeprefix("socket:[").removesuffix("]") for name in fds if name.startswith("socket:")}
    found = []
    for family, table in ((socket.AF_INET, "tcp"), (socket.AF_INET6, "tcp6")):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENING and fields[9] in inodes:
                words = bytes.fromhex(fields[1].partition(":")[0])
                raw = b"".join(words[at : at + 4][::-1] for at in range(0, len(words), 4))
                found.append(socket.inet_ntop(family, raw))
    assert found, f"process {pid} listens nowhere"
    return found


def test_one_that_dies_is_there_again(stack: Stack) -> None:
    import signal
    import time

    before = service.state(stack.run, "timestamps").child
    assert before
    service.signal_child(stack.run, "timestamps", signal.SIGKILL)
    end = time.monotonic() + 20
    while (now := service.state(stack.run, "timestamps")).state != "running" or now.child == before:
        assert time.monotonic() < end, now
        time.sleep(0.05)
