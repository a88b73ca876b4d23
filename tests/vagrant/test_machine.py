"""A machine of the place ``vagrant``, by lxc with the built box: up, reached, and gone without a trace."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from countersign.console.config import ROOT, Settings
from countersign.console.errors import InfrastructureError
from countersign.console.sources import load_settings
from machines import boxes, vagrant
from machines.place import place
from tests.e2e import footprint

UP_WITHIN = 300


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A machine of its own, in a state folder of its own."""
    found = load_settings()
    chosen = dataclasses.replace(found.vagrant, provider="lxc", box="built", machine="tried", bridge="")
    return dataclasses.replace(found, state=tmp_path_factory.mktemp("state"), vagrant=chosen)


@pytest.fixture(scope="module")
def before(settings: Settings) -> footprint.Footprint:
    """What this host had before; the box is in the cache by then."""
    boxes.build(settings, "lxc")
    return footprint.take("none")


@pytest.fixture(scope="module")
def machine(settings: Settings, before: footprint.Footprint) -> Iterator[Settings]:
    """The machine, up; the last test destroys it itself."""
    vagrant.up(settings)
    yield settings
    vagrant.destroy(settings)


def inv(settings: Settings, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "INVOKE_STATE": str(settings.state),
        "INVOKE_VAGRANT_MACHINE": settings.vagrant.machine,
        "INVOKE_VAGRANT_PROVIDER": "lxc",
        "INVOKE_VAGRANT_BOX": "built",
    }
    command = [str(ROOT / "inv"), *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=UP_WITHIN, check=False)


def ssh(config: Path, name: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = ["ssh", "-F", str(config), name, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.timeout(1200)  # the box may have to be built first
def test_it_is_up_with_systemd_and_what_runtimes_need(machine):
    config = vagrant.ssh_config(machine)
    done = ssh(
        config, "tried", "systemctl is-system-running --wait; command -v conmon /usr/sbin/runc sudo; sudo -n id -u"
    )
    assert done.stdout.split() == ["running", "/usr/bin/conmon", "/usr/sbin/runc", "/usr/bin/sudo", "0"], done.stderr
    assert done.stderr == ""


def test_its_host_keys_are_checked(machine, tmp_path):
    config = vagrant.ssh_config(machine)
    assert ssh(config, "tried", "true").returncode == 0
    other = tmp_path / "known_hosts"
    address = place(machine).known_hosts.read_text().split()[0]
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    other.write_text(f"{address} {(tmp_path / 'key.pub').read_text()}")
    wrong = tmp_path / "config"
    wrong.write_text(config.read_text().replace(str(place(machine).known_hosts), str(other)))
    wrong.chmod(0o600)
    assert ssh(wrong, "tried", "true").returncode == 255


def test_the_well_known_key_is_good_no_more(machine):
    keys = ssh(vagrant.ssh_config(machine), "tried", "cat .ssh/authorized_keys").stdout.splitlines()
    known = (boxes.RECIPE / "vagrant.pub").read_text().split()[1]
    assert [line for line in keys if line.strip()]
    assert not any(known in line for line in keys)


def test_it_touches_nothing_of_the_hosts_kernel(machine):
    units = " ".join(unit for unit in boxes.HOST_ONLY if unit.endswith(".service"))
    done = ssh(vagrant.ssh_config(machine), "tried", f"systemctl is-active {units}")
    assert set(done.stdout.split()) == {"inactive"}


def test_a_second_up_changes_nothing(machine):
    start = time.monotonic()
    done = inv(machine, "vagrant.up", "--json")
    assert (done.returncode, json.loads(done.stdout)["changed"]) == (0, 0), done.stderr
    assert time.monotonic() - start < 10


def test_status_says_how_it_is(machine):
    done = inv(machine, "vagrant.status", "--json")
    document = json.loads(done.stdout)
    assert (done.returncode, document["state"], document["provider"]) == (0, "running", "lxc")


def test_another_box_is_refused_while_it_is_there(machine):
    other = dataclasses.replace(machine, vagrant=dataclasses.replace(machine.vagrant, box="some/box"))
    with pytest.raises(InfrastructureError, match="expected some/box; destroy it first"):
        vagrant.up(other)


def test_a_stopped_machine_is_started_again(machine):
    guest = place(machine).guest
    subprocess.run(["lxc-stop", "--kill", "--name", guest], check=True, capture_output=True)
    done = inv(machine, "vagrant.status")
    assert (done.returncode, "the machine is stopped" in done.stderr) == (4, True), done.stderr
    with pytest.raises(InfrastructureError, match="the machine is stopped; run"):
        vagrant.ssh_config(machine)
    assert vagrant.up(machine) > 0
    assert ssh(vagrant.ssh_config(machine), "tried", "true").returncode == 0


def test_nothing_of_it_stays(machine, before):
    here = place(machine)
    marks = (here.guest, here.bridge, str(machine.state))

    def ours(kind: str, found: footprint.Footprint) -> set[str]:
        """What has a name of ours; other things come and go on a machine meanwhile."""
        return {name for name in vars(found)[kind] if any(mark in name for mark in marks)}

    up = footprint.take("none")
    ours_while_up = {kind: ours(kind, up) - ours(kind, before) for kind in ("files", "cgroups", "interfaces")}
    assert all(ours_while_up.values()), "the names are the right ones to look for"
    assert ours("mounts", up) == ours("mounts", before)
    attached = {path.name for path in Path(f"/sys/class/net/{here.bridge}/brif").iterdir()}
    assert attached
    assert inv(machine, "vagrant.destroy").returncode == 0
    assert vagrant.state(machine) == "not_created"
    after = footprint.take("none")
    assert {kind: ours(kind, after) for kind in ours_while_up} == {kind: set() for kind in ours_while_up}
    assert not attached & after.interfaces
    assert footprint.processes(machine.state) == []
    assert not place(machine).folder.exists()
    assert inv(machine, "vagrant.status").returncode == 4
    assert vagrant.destroy(machine) is False
