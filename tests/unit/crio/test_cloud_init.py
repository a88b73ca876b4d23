import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

from crio import packages
from crio.repository import CRIO

FILE = Path(packages.__file__).parent / "cloud-init.yaml"
SCRIPT = "/usr/local/sbin/countersign-crio"


@pytest.fixture(scope="module")
def written() -> dict[str, str]:
    return {each["path"]: each["content"] for each in document()["write_files"]}


def document():
    return yaml.safe_load(FILE.read_text())


def test_it_is_cloud_config_with_the_packages_of_the_steps(written):
    assert FILE.read_text().startswith("#cloud-config\n")
    assert [*document()["packages"], "cri-o"] == [*packages.BEFORE["deb"], *packages.RUNTIME["deb"][1:], "cri-o"]
    assert f"hold {' '.join(packages.RUNTIME['deb'])}\n" in written[SCRIPT]
    assert document()["runcmd"] == [[SCRIPT]]


def test_it_writes_the_files_of_the_steps(written):
    assert written[f"{packages.CONFIG}/05-plugins.conf"] == (packages.FILES / "05-plugins.conf").read_text()
    link = "11-countersign-veth.link"
    assert written[f"{packages.LINKS}/{link}"] == (packages.FILES / link).read_text()
    network = "11-countersign-bridge.conflist"
    assert json.loads(written[f"{packages.NETWORK}/{network}"]) == json.loads((packages.FILES / network).read_text())


def test_it_has_the_repository_and_the_pinned_key_of_the_steps(written):
    script = written[SCRIPT]
    assert f"url={CRIO.url('deb')}\n" in script
    assert {f"right={each}" for each in CRIO.fingerprints} <= set(script.split())
    assert CRIO.listing("deb").decode().replace(CRIO.url("deb"), "$url").strip() in script
    assert f"enable --now {packages.UNIT}" in script


@pytest.mark.parametrize("right", [True, False])
def test_its_script_installs_only_with_the_right_key(written, tmp_path, right):
    """Run it with programs that only note what they were asked to do."""
    programs, log = tmp_path / "bin", tmp_path / "log"
    programs.mkdir()
    shown = f"pub:\nfpr:::::::::{next(iter(CRIO.fingerprints)) if right else 'F' * 40}:\nsub:\nfpr:::::::::AAAA:\n"
    for name in ("curl", "gpg", "install", "apt-get", "apt-mark", "systemctl"):
        body = f"printf '{shown}'\n" if name == "gpg" else ""
        (programs / name).write_text(f'#!/bin/sh\necho "{name} $*" >>{log}\n{body}')
        (programs / name).chmod(0o755)
    listed = tmp_path / "cri-o.list"
    script = tmp_path / "script"
    script.write_text(written[SCRIPT].replace("/etc/apt/sources.list.d/cri-o.list", str(listed)))
    path = f"{programs}:{os.environ['PATH']}"
    done = subprocess.run(["sh", str(script)], env={"PATH": path}, capture_output=True, text=True, check=False)
    ran = [line.split()[0] for line in log.read_text().splitlines()]
    if right:
        assert (done.returncode, ran[-1], listed.exists()) == (0, "systemctl", True), done.stderr
    else:
        assert (done.returncode, ran, listed.exists()) == (1, ["curl", "gpg"], False)
        assert "got the key FFFF" in done.stderr
