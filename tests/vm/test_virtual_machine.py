"""A virtual machine by libvirt with the built box, its own kernel and cgroup v2: one image accepted, one refused.

Without KVM it is emulated, 11 to 36 times slower than this host; so this is little, and only run when chosen.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from collections.abc import Iterator

import pytest

from countersign.console.config import ROOT, Settings
from countersign.console.sources import load_settings
from machines import vagrant
from machines.place import place

pytestmark = pytest.mark.timeout(3600)
ROOM = "crio" if "CRIO_BIN" in os.environ else "containerd"
SET_UP = "configure" if ROOM == "crio" else "setup"


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A machine of its own, up."""
    found = load_settings()
    chosen = dataclasses.replace(found.vagrant, provider="libvirt", box="built", machine="emulated")
    settings = dataclasses.replace(found, state=tmp_path_factory.mktemp("state"), vagrant=chosen, node="vagrant")
    vagrant.up(settings)
    yield settings
    vagrant.destroy(settings)


def inv(settings: Settings, *words: str) -> subprocess.CompletedProcess[str]:
    known = {
        "INVOKE_STATE": str(settings.state),
        "INVOKE_NODE": "vagrant",
        "INVOKE_VAGRANT_MACHINE": settings.vagrant.machine,
        "INVOKE_VAGRANT_PROVIDER": "libvirt",
        "INVOKE_VAGRANT_BOX": "built",
    }
    command, environment = [str(ROOT / "inv"), *words], {**os.environ, **known}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stderr
    return done


def test_it_has_a_kernel_of_its_own_and_cgroup_v2(machine: Settings) -> None:
    command = ["ssh", "-F", str(vagrant.ssh_config(machine)), machine.vagrant.machine]
    script = "uname -r; stat -fc %T /sys/fs/cgroup; systemctl is-system-running --wait"
    done = subprocess.run([*command, script], capture_output=True, text=True, timeout=300, check=False)
    kernel, cgroups, state = done.stdout.split()
    assert (cgroups, state) == ("cgroup2fs", "running"), done.stderr
    assert kernel != os.uname().release


def test_a_signed_image_starts_and_an_unsigned_one_does_not(machine: Settings) -> None:
    inv(machine, f"{ROOM}.setup-vm")
    inv(machine, f"{ROOM}.{SET_UP}", f"{ROOM}.sign")
    again = inv(machine, f"{ROOM}.{SET_UP}", "--json")
    assert json.loads(again.stdout)["changed"] == 0
    tried = inv(machine, f"{ROOM}.test", "--only", "bundle/import", "--only", "unsigned/import", "--json")
    codes = {row["id"]: row["code"]["actual"] for row in json.loads(tried.stdout)["rows"]}
    assert codes["bundle/import"] == "OK"
    assert codes["unsigned/import"] == "UNSIGNED"
    inv(machine, f"{ROOM}.clean")


def test_nothing_of_it_stays(machine: Settings) -> None:
    assert vagrant.destroy(machine) is True
    assert vagrant.state(machine) == "not_created"
    assert not place(machine).folder.exists()
