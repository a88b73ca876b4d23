"""Containerd, and CRI-O where a binary is named, on a machine over SSH: enforced, tried, and as it was before."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from containerd.machine import Machine
from countersign.console.config import ROOT, Settings
from countersign.console.errors import InfrastructureError
from countersign.console.sources import load_settings
from countersign.cri.client import Client
from countersign.cri.errors import CriError
from countersign.cri.model import Container
from countersign.enforcement import proof
from countersign.enforcement.additions import NOTHING
from crio.paths import INSTALLED
from machines import vagrant
from machines.remote import open_node
from tests.vagrant import own

ROWS = (
    *("bundle/", "unsigned/", "wrong_key_attachment/import", "both/registry_"),
    *("keyless_bundle/pull", "keyless_other_ca/import", "keyless_other_workflow/import", "keyless_expired/import"),
    *("keyless_no_log/import", "pki_bundle/pull"),
)
NEEDS_CRIO = pytest.mark.skipif("CRIO_BIN" not in os.environ, reason="CRIO_BIN names no CRI-O")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A machine of its own, up."""
    found = load_settings()
    chosen = dataclasses.replace(found.vagrant, provider="lxc", box="built", machine="runtimes", bridge="")
    settings = dataclasses.replace(found, state=tmp_path_factory.mktemp("state"), vagrant=chosen, node="vagrant")
    vagrant.up(settings)
    yield settings
    inv(settings, "containerd.clean")
    inv(settings, "crio.clean")
    vagrant.destroy(settings)


def inv(settings: Settings, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    known = {
        "INVOKE_STATE": str(settings.state),
        "INVOKE_NODE": "vagrant",
        "INVOKE_VAGRANT_MACHINE": settings.vagrant.machine,
        "INVOKE_VAGRANT_PROVIDER": "lxc",
        "INVOKE_VAGRANT_BOX": "built",
    }
    return subprocess.run(
        [str(ROOT / "inv"), *words],
        env={**os.environ, **known, **environment},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def good(done: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    assert done.returncode == 0, done.stderr
    return done


def there(settings: Settings, script: str) -> str:
    config = str(vagrant.ssh_config(settings))
    command = ["ssh", "-F", config, settings.vagrant.machine, f"sudo sh -c '{script}'"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def reboot(settings: Settings) -> None:
    """Reboot the machine, and return once it is up again."""
    started = there(settings, "stat -c %Y /proc/1")
    there(settings, "(sleep 1; systemctl reboot) >/dev/null 2>&1 &")
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        time.sleep(1)
        with contextlib.suppress(InfrastructureError, subprocess.SubprocessError):
            if there(settings, "stat -c %Y /proc/1") != started:
                there(settings, "systemctl is-system-running --wait || true")
                return
    pytest.fail("the machine did not come back")


LISTED = "find /etc /usr/local /opt -type f | sort | xargs sha256sum"


def only(names: tuple[str, ...]) -> list[str]:
    return [word for name in names for word in ("--only", name)]


@pytest.mark.timeout(1200)
def test_containerd_from_set_up_to_clean(machine: Settings) -> None:
    good(inv(machine, "containerd.setup-vm"))
    before = there(machine, LISTED)
    planned = good(inv(machine, "containerd.setup", "--demo", "--plan"))
    assert "+++" in planned.stderr  # a diff of what would change
    assert there(machine, LISTED) == before
    good(inv(machine, "containerd.setup", "--demo", "containerd.sign"))
    again = good(inv(machine, "containerd.setup", "--json"))
    assert json.loads(again.stdout)["changed"] == 0
    good(inv(machine, "containerd.test", *only(ROWS)))
    good(inv(machine, "containerd.status"))
    good(inv(machine, "containerd.clean"))
    assert there(machine, LISTED) == before


@pytest.mark.timeout(600)
def test_a_machine_whose_disk_is_full_is_left_as_it_was(machine: Settings) -> None:
    before = there(machine, LISTED)
    there(machine, "mkdir -p /etc/containerd/certs.d && mount -t tmpfs -o size=4k tmpfs /etc/containerd/certs.d")
    try:
        done = inv(machine, "containerd.setup", "--demo")
        assert (done.returncode, "Traceback" in done.stderr) == (4, False)
        assert "the disk is full; make room there" in done.stderr
    finally:
        there(machine, "umount /etc/containerd/certs.d")
    assert there(machine, LISTED) == before
    good(inv(machine, "containerd.setup", "--demo"))
    good(inv(machine, "containerd.clean"))


@pytest.mark.timeout(900)
def test_a_machine_of_a_users_own_gets_nothing_of_the_demo(machine: Settings, tmp_path: Path) -> None:
    good(inv(machine, "containerd.setup-vm"))
    node = open_node(machine)
    with own.own(machine, node, tmp_path) as users:
        before = there(machine, LISTED)
        refused = inv(machine, "containerd.setup", **users.environment)
        assert (refused.returncode, there(machine, LISTED)) == (3, before)
        assert "does not have its sandbox image yet" in refused.stderr
        named = there(machine, 'containerd config dump | sed -n "s/.*sandbox = .\\(.*\\)./\\1/p"').split()[0]
        own.bring_pause_image(machine, node, named, tmp_path)
        done = good(inv(machine, "containerd.setup", **users.environment))
        assert proof.CLAIM in done.stderr
        assert f"{own.SIGNED} is allowed (" in done.stderr
        assert there(machine, "grep -rl countersign.test /etc /opt /usr/local || true") == ""
        assert json.loads(there(machine, "cat /etc/countersign/docker.json")) == own.LOGIN
        assert not any(users.keys.iterdir())
        assert not (machine.state / "remote").exists()
        assert json.loads(good(inv(machine, "containerd.setup", "--json", **users.environment)).stdout)["changed"] == 0
        good(inv(machine, "containerd.status", **users.environment))
        with Machine.as_set_up(machine, node, NOTHING, tmp_path).client() as client:
            start(client, own.SIGNED)
            with pytest.raises(CriError, match=r"countersign: refused \S+: UNSIGNED:"):
                start(client, own.UNSIGNED)
        there(machine, f"ctr -n k8s.io images rm {own.SIGNED} {named}")
        good(inv(machine, "containerd.clean", **users.environment))
        assert there(machine, LISTED) == before


def test_a_machine_without_crio_is_one_line_and_left_as_it_was(machine: Settings) -> None:
    if there(machine, "command -v crio || true"):
        pytest.fail("the machine has a CRI-O already")
    before = there(machine, LISTED)
    done = inv(machine, "crio.configure")
    assert (done.returncode, "Traceback" in done.stderr) == (3, False)
    assert there(machine, LISTED) == before


@NEEDS_CRIO
@pytest.mark.timeout(900)
def test_a_crio_of_a_users_own_gets_nothing_of_the_demo(machine: Settings, tmp_path: Path) -> None:
    good(inv(machine, "crio.setup-vm"))
    node = open_node(machine)
    with own.own(machine, node, tmp_path) as users, own.known_to_crio(node, users.location):
        before = there(machine, LISTED)
        done = good(inv(machine, "crio.configure", **users.environment))
        assert proof.CLAIM in done.stderr
        assert f"{own.SIGNED} is allowed (" in done.stderr
        assert there(machine, "grep -rl countersign.test /etc /opt /usr/local || true") == ""
        assert json.loads(there(machine, "cat /etc/countersign/docker.json")) == own.LOGIN
        assert not any(users.keys.iterdir())
        assert not (machine.state / "remote").exists()
        again = good(inv(machine, "crio.configure", "--json", **users.environment))
        assert json.loads(again.stdout)["changed"] == 0
        good(inv(machine, "crio.status", **users.environment))
        with Client(node.forward(INSTALLED.socket), cgroup_parent="countersign.slice") as client:
            start(client, own.SIGNED)
            with pytest.raises(CriError, match="SignatureValidationFailed"):
                start(client, own.UNSIGNED)
        good(inv(machine, "crio.clean", **users.environment))
        assert there(machine, LISTED) == before


@NEEDS_CRIO
@pytest.mark.timeout(900)
def test_a_node_with_crio_installs_itself_and_takes_itself_off(machine: Settings, tmp_path: Path) -> None:
    good(inv(machine, "crio.setup-vm"))
    node = open_node(machine)
    with own.own(machine, node, tmp_path) as users, own.known_to_crio(node, users.location):
        gate = own.bring_gate(machine, node, users, lambda *words: good(inv(machine, *words)))
        with Client(node.forward(INSTALLED.socket)) as client:
            client.pull(own.PAUSE)  # an install pulls it where it is not there, a plan does not
        before = there(machine, EVERY)
        node.run([*gate, "--plan"])
        assert there(machine, EVERY) == before
        done = json.loads(node.run([*gate, "--json"]).text)
        assert (done["runtime"].split()[0], done["changed"]) == ("CRI-O", len(done["steps"]))
        receipt = done["receipt"]
        assert [receipt["proven"][each] for each in ("refuse", "allow")] == [True, True], receipt
        assert {each["layer"] for each in receipt["refused"]} == {"pull", "create"}, receipt
        assert json.loads(node.run([*gate, "--json"]).text)["changed"] == 0
        with Client(node.forward(INSTALLED.socket), cgroup_parent="countersign.slice") as client:
            start(client, own.SIGNED)
            with pytest.raises(CriError, match="SignatureValidationFailed"):
                start(client, own.UNSIGNED)
            policy = own.rendered(users, "reject", lambda *words: good(inv(machine, *words)))
            node.put(policy, f"{own.BROUGHT}/policy.json")
            node.run([f"{own.BROUGHT}/countersign-gate", "install-policy", f"{own.BROUGHT}/policy.json"])
            with pytest.raises(CriError, match="SignatureValidationFailed"):
                start(client, own.SIGNED)  # CRI-O's own engine goes by the new one as well
        node.run([f"{own.BROUGHT}/countersign-gate", "uninstall"])
        assert there(machine, EVERY) == before
        there(machine, f"rm -rf {own.BROUGHT}")


EVERY = (
    r"find /etc /usr/local /opt -xdev -type f -printf \"%p %m %U %G %T@\n\" | sort; "
    "find /etc /usr/local /opt -xdev -type f | sort | xargs sha256sum; find /etc /usr/local /opt -xdev -type d | sort"
)


def start(client: Client, image: str) -> None:
    """Pull and start an image as a kubelet does."""
    client.pull(image)
    found = client.image_status(image)
    assert found is not None
    with client.pod() as pod:
        client.start(client.create(pod, Container(found.id, written=image, command=("/demo", "sleep"))))


@NEEDS_CRIO
@pytest.mark.timeout(1800)
def test_crio_from_set_up_to_clean_and_over_a_reboot(machine: Settings) -> None:
    good(inv(machine, "crio.setup-vm"))
    before = there(machine, LISTED)
    good(inv(machine, "crio.configure", "--demo", "crio.sign"))
    again = good(inv(machine, "crio.configure", "--json"))
    assert json.loads(again.stdout)["changed"] == 0
    good(inv(machine, "crio.test"))
    reboot(machine)
    good(inv(machine, "crio.test", *only(("starts/signed", "starts/cached"))))
    good(inv(machine, "crio.clean"))
    assert there(machine, LISTED) == before


@pytest.mark.parametrize(
    ("task", "done"), [(("crio.configure",), "configured"), (("containerd.setup", "--demo"), "set up")]
)
def test_one_machine_out_of_reach_stops_no_other(machine: Settings, task: tuple[str, ...], done: str) -> None:
    if shutil.which("ssh") is None:
        pytest.fail("there is no ssh")
    ended = inv(machine, *task, "--on", "vagrant,ssh://root@127.0.0.1:9")
    assert ended.returncode == 4
    assert "ssh://root@127.0.0.1:9" in ended.stderr
    assert f"of 2 machines were not {done}" in ended.stderr
    if task[0] == "containerd.setup":
        assert f"✓ {done}" in ended.stderr
        good(inv(machine, "containerd.status"))
        good(inv(machine, "containerd.clean"))
