"""The README's five minutes with an image and a key of one's own, line by line, as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from countersign.console.config import ROOT
from tests.images import push_image
from tests.interop.conftest import PASSWORD, Lab

pytestmark = pytest.mark.interop
TITLE, REGISTRY = "Your own image and key, in five minutes", "registry.example"


@pytest.mark.parametrize("lab", ["referrers"], indirect=True)
def test_the_five_minutes_with_an_image_and_a_key_of_ones_own(lab: Lab, tmp_path: Path) -> None:
    push_image(lab.client, f"{lab.netloc}/app", "1.2")
    section = (ROOT / "README.md").read_text().partition(f"## {TITLE}\n")[2].partition("\n## ")[0]
    lines = re.findall(r"^```sh\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL)[0].splitlines()
    (tmp_path / "inv").write_text(f'#!/bin/sh\nexec {sys.executable} {ROOT}/tasks.py "$@"\n')
    (tmp_path / "inv").chmod(0o755)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    environment = os.environ | {"COSIGN_PASSWORD": PASSWORD, "INVOKE_STATE": str(tmp_path / "state")}

    def run(line: str) -> str:
        argv = ["sh", "-c", line.replace(REGISTRY, lab.netloc)]
        done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}: {done.stderr}"
        return done.stderr

    said = []
    for line in lines:
        said.append(run(line))
        if line.startswith("cp "):  # "then name your registry in it"
            policy = tmp_path / "policy.yaml"
            policy.write_text(policy.read_text().replace(REGISTRY, lab.netloc))
    assert "attachment added, bundle added" in said[1]
    assert f"countersign: allowed {lab.netloc}/app:1.2" in said[2]
    assert "rule: anyOf: release" in said[-1]
