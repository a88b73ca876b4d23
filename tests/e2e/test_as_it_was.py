"""What set-up puts on a node with systemd is taken away again to the last byte, mode, owner and time of a file.

It runs on this machine, in a mount namespace that sees copies of its folders; systemd, containerd and CRI-O are
stand-ins that answer nothing but what the steps ask.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from countersign.console.config import ROOT

SCRIPT = Path(__file__).with_name("as_it_was.py")


@pytest.mark.parametrize("runtime", ["containerd", "crio"])
@pytest.mark.parametrize("given", ["bare", "used"])
def test_clean_leaves_a_node_as_it_was(tmp_path: Path, runtime: str, given: str) -> None:
    words = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        sys.executable,
        str(SCRIPT),
        runtime,
        given,
        str(tmp_path),
    ]
    ours = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, cwd=ROOT, env=ours, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "changed by set-up, and as it was after clean\n"), done.stderr
