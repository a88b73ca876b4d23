from __future__ import annotations

import os
import selectors
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from countersign.console.errors import InfrastructureError, MissingError
from countersign.nodes.capture import OUTPUT_LIMIT
from countersign.nodes.host import HostNode
from countersign.nodes.node import CommandError


@pytest.fixture
def node() -> HostNode:
    return HostNode()


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_command_gets_its_input_and_environment_and_gives_back_both_streams(node):
    code = "import os, sys; print(sys.stdin.read() + os.environ['WORD']); print('why', file=sys.stderr); sys.exit(3)"
    result = node.run(python(code), input=b"in ", env={"WORD": "out"}, check=False)
    assert (result.code, result.text, result.stderr) == (3, "in out", b"why\n")


def test_a_failed_command_is_shown_as_a_shell_would_take_it(node):
    argv = ["/bin/sh", "-c", 'echo "two words" >&2; exit 7']
    with pytest.raises(CommandError, match="exit code 7: two words") as caught:
        node.run(argv)
    assert f"host: {shlex.join(argv)}" in str(caught.value)
    pasted = subprocess.run(shlex.join(argv), shell=True, capture_output=True, check=False)
    assert pasted.returncode == caught.value.result.code


def test_no_shell_reads_the_arguments(node):
    assert node.run(["printf", "%s", "$(id); *"]).text == "$(id); *"


def test_a_program_that_is_not_there_is_what_the_machine_lacks(node):
    with pytest.raises(MissingError, match="no-such-program"):
        node.run(["no-such-program"])


def test_output_is_bounded_to_its_end(node):
    result = node.run(python(f"import sys; sys.stdout.write('x' * {2 * OUTPUT_LIMIT} + 'end')"))
    assert len(result.stdout) == OUTPUT_LIMIT
    assert result.stdout.endswith(b"xend")


def test_a_command_that_takes_too_long_is_killed_with_what_it_started(node, tmp_path):
    pid = tmp_path / "pid"
    start = time.monotonic()
    with pytest.raises(CommandError, match=r"did not end within 0\.5 s: started"):
        node.run(["sh", "-c", f"sleep 60 & echo $! > {pid}; echo started; wait"], timeout=0.5)
    assert time.monotonic() - start < 5
    grandchild = Path(f"/proc/{pid.read_text().strip()}/stat")
    deadline = time.monotonic() + 5
    while grandchild.exists() and grandchild.read_text().split()[2] != "Z" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not grandchild.exists() or grandchild.read_text().split()[2] == "Z"


def test_a_daemon_that_keeps_the_pipes_does_not_keep_us(node):
    start = time.monotonic()
    result = node.run(["sh", "-c", "sleep 3 & echo started"], timeout=30)
    assert result.text == "started"
    assert time.monotonic() - start < 2


def test_what_a_command_writes_while_nobody_looks_is_not_lost(node, tmp_path, monkeypatch):
    look, go_on = selectors.DefaultSelector.select, tmp_path / "go-on"

    def late(selector, timeout=None):
        if go_on.exists():
            return look(selector, timeout)
        ready = look(selector, 0)
        go_on.touch()  # it writes and ends after this look has found nothing
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        return ready

    monkeypatch.setattr(selectors.DefaultSelector, "select", late)
    assert node.run(["/bin/sh", "-c", f"until [ -e {go_on} ]; do sleep 0.01; done; echo there"]).text == "there"


def test_a_file_is_changed_once(node, tmp_path):
    path = tmp_path / "file"
    assert node.put(b"content", str(path), 0o640)
    assert not node.put(b"content", str(path), 0o640)
    assert node.put(b"content", str(path), 0o600)
    assert node.put(b"another", str(path), 0o600)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"another", 0o600)
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_put_from_a_file(node, tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(3 << 20))
    assert node.put(source, str(target), 0o755)
    assert not node.put(source, str(target), 0o755)
    assert target.read_bytes() == source.read_bytes()


def test_a_secret_is_never_readable_by_others_on_its_way(node, tmp_path, monkeypatch):
    seen: list[int] = []

    def watched(descriptor: int, mode: int) -> None:
        seen.extend(path.stat().st_mode & 0o777 for path in tmp_path.iterdir())
        os.chmod(descriptor, mode)

    monkeypatch.setattr("countersign.nodes.host.os.fchmod", watched)
    node.put(b"secret", str(tmp_path / "file"), 0o600)
    assert seen == [0o600]


def test_a_link_is_replaced_and_not_followed(node, tmp_path):
    victim, link = tmp_path / "victim", tmp_path / "link"
    victim.write_text("untouched")
    link.symlink_to(victim)
    assert node.put(b"new", str(link))
    assert (victim.read_text(), link.is_symlink(), link.read_text()) == ("untouched", False, "new")


def test_a_failed_put_leaves_the_old_file_and_nothing_else(node, tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(LookupError):
        node.put(b"new", str(path), owner="no-such-user")
    assert (path.read_text(), list(tmp_path.iterdir())) == ("old", [path])


def test_a_file_that_cannot_be_read_is_named(node, tmp_path):
    with pytest.raises(InfrastructureError, match="nowhere: No such file"):
        node.get(str(tmp_path / "nowhere"))


def test_the_ways_to_this_machine_are_short(node, tmp_path):
    assert node.forward("/run/x.sock") == "unix:/run/x.sock"
    assert node.expose(5000) == "http://127.0.0.1:5000"
    assert node.exists(str(tmp_path))
    assert not node.exists(str(tmp_path / "x"))
