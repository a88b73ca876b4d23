"""The whole matrix on a private containerd: one test a row, all from one run."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from countersign.console.config import ROOT
from lab.trials.model import load

ROWS = [case.id for case in load()]


@pytest.fixture(scope="module")
def state() -> Iterator[Path]:
    """A containerd under enforcement with the signed demo, in a state folder of its own."""
    with tempfile.TemporaryDirectory(prefix="cs-") as folder:  # short: sockets lie below it
        path = Path(folder)
        try:
            for task in ("containerd.setup", "containerd.sign"):
                assert inv(path, task).returncode == 0
            yield path
        finally:
            assert inv(path, "containerd.clean").returncode == 0


@pytest.fixture(scope="module")
def rows(state: Path) -> dict[str, dict[str, Any]]:
    """What came out, by row."""
    done = inv(state, "containerd.test", "--json")
    document = json.loads(done.stdout)
    assert document["version"] == "countersign.trials/v1"
    assert done.returncode == (1 if document["failed"] else 0)
    return {row["id"]: row for row in document["rows"]}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("row", ROWS)
def test_the_verdict_is_that_of_the_matrix(rows: dict[str, dict[str, Any]], row: str) -> None:
    found = rows[row]
    assert found["differences"] == []
    for what in ("allow", "code", "layer"):
        assert found[what]["actual"] == found[what]["expected"]


def test_some_rows_can_be_run_alone(state: Path) -> None:
    done = inv(state, "containerd.test", "--only", "unsigned/volume", "--only", "bundle/volume", "--json")
    document = json.loads(done.stdout)
    assert (done.returncode, document["passed"], document["failed"]) == (0, 2, 0)


def test_a_row_that_does_not_exist_is_a_usage_error(state: Path) -> None:
    assert inv(state, "containerd.test", "--only", "no-such-row").returncode == 2


def inv(state: Path, task: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(ROOT / "inv"), task, *options],
        env={**os.environ, "INVOKE_NODE": "host", "INVOKE_STATE": str(state)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
