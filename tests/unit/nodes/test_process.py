from __future__ import annotations

import dataclasses
import os
import signal
import subprocess

import pytest

from countersign.nodes import process


@pytest.fixture
def child():
    with subprocess.Popen(["sleep", "60"]) as started:
        yield started
        started.kill()


def test_a_process_is_itself_until_it_ends(child):
    found = process.of(child.pid)
    assert found is not None
    assert found.alive()
    assert found.send(signal.SIGKILL)
    assert found.wait(5)
    assert not found.alive(), "a zombie has ended"
    child.wait()
    assert process.of(child.pid) is None


@pytest.mark.parametrize("change", [{"start": 1}, {"boot": "another"}])
def test_a_recycled_number_is_never_signalled(child, change):
    found = process.of(child.pid)
    assert found is not None
    other = dataclasses.replace(found, **change)
    assert not other.alive()
    assert not other.send(signal.SIGKILL)
    assert child.poll() is None


def test_a_name_with_brackets_and_blanks_is_no_trouble(tmp_path):
    program = tmp_path / "a) R (b"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([str(program), "60"]) as started:
        found = process.of(started.pid)
        started.kill()
    me = process.of(os.getpid())
    assert found is not None
    assert me is not None
    assert found.start >= me.start
