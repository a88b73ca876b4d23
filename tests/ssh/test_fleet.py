"""Real machines over SSH, each with a containerd that systemd keeps: set up past what goes wrong on some.

It takes two minutes, so it runs where ``INVOKE_TESTS_MACHINES`` says how many there are to be, five at least.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from countersign.console.config import ROOT
from countersign.console.errors import MissingError
from countersign.console.sources import load_settings
from lab.bench.small import PORT, Small, machines, needs

MACHINES = load_settings().tests.machines
COUNT = int(MACHINES or 5)
POLICY = """apiVersion: countersign/v1
default: reject
roots:
  team: {publicKey: {files: [team.pub]}}
scopes:
  signed.test: {anyOf: [team]}
pinned: []
"""
NOBODY = f"ssh://root@127.7.1.1:{PORT}"
DIES = "[Service]\nExecStartPre=+/bin/systemctl --force --force poweroff\n"

pytestmark = pytest.mark.timeout(120 + 60 * COUNT)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Small]]:
    """The machines, all of them as they began."""
    if not MACHINES:
        pytest.skip("it takes two minutes; INVOKE_TESTS_MACHINES=5 has it run")
    try:
        needs()
    except MissingError as error:
        pytest.skip(str(error))
    with machines(load_settings(), tmp_path_factory.mktemp("fleet") / "m", COUNT) as made:
        key = ec.generate_private_key(ec.SECP256R1()).public_key()
        (made[0].root / "team.pub").write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        (made[0].root / "policy.yaml").write_text(POLICY)
        yield made


def begin(fleet: list[Small], *words: str) -> subprocess.Popen[str]:
    """Start a task, as one who has these machines' key."""
    root, settings = fleet[0].root, load_settings()
    env = {
        **os.environ,
        "HOME": str(root / "home"),
        "INVOKE_CACHE": str(settings.cache.resolve()),
        "INVOKE_STATE": str(root / "state"),
        "INVOKE_POLICY": str(root / "policy.yaml"),
    }
    env.pop("SSH_AUTH_SOCK", None)
    pipe = subprocess.PIPE
    return subprocess.Popen([ROOT / "inv", *words], env=env, stdout=pipe, stderr=pipe, text=True)


def inv(fleet: list[Small], *words: str) -> tuple[int, dict[str, Any], str]:
    """Run a task; return its exit code, document and messages."""
    running = begin(fleet, *words, "--json")
    out, said = running.communicate(timeout=60 * COUNT + 60)
    assert out, said
    return running.returncode, json.loads(out), said


def states(document: dict[str, Any]) -> dict[str, str]:
    """Return what came of each machine."""
    return {one["place"]: one["state"] for one in document["machines"]}


def test_what_is_wrong_with_some_is_named_for_each_and_harms_no_other(fleet: list[Small]) -> None:
    """Unreachable, no root, a read-only /etc, one that dies half-way, another host key; beside them a good one."""
    bare, fixed, dies, other, well = fleet[:5]
    for path, line in (("passwd", "bare:x:4242:65534::/:/bin/sh"), ("shadow", "bare:*:19000:0:99999:7:::")):
        bare.run("tee", "-a", f"/etc/{path}", given=f"{line}\n")
    fixed.run("sh", "-c", "mount --bind /etc /etc && mount -o remount,bind,ro /etc")
    drop = "/etc/systemd/system/countersign-gate.service.d"
    dies.run("sh", "-c", f"mkdir {drop} && cat >{drop}/dies.conf", given=DIES)
    known = fleet[0].root / "home/.ssh/known_hosts"
    right = known.read_text()
    known.write_text(right.replace(other.known, other.known.replace(other.known.split()[2], well.known.split()[2])))
    places = [NOBODY, bare.url("bare"), fixed.url(), dies.url(), other.url(), well.url()]
    code, document, said = inv(fleet, "containerd.setup", "--on", ",".join(places))
    known.write_text(right)
    assert code == 4, said
    assert states(document) == {**dict.fromkeys(places, "failed"), well.url(): "done"}
    errors = {one["place"]: one.get("error", "") for one in document["machines"]}
    assert "cannot be reached" in errors[NOBODY]
    assert "sudo does not let bare without a password" in errors[bare.url("bare")]
    assert "/etc/countersign" in errors[fixed.url()]
    assert "Read-only file system" in errors[fixed.url()]
    assert "what it did could not be undone" in errors[dies.url()]
    assert "its host key is not the known one" in errors[other.url()]
    assert "5 of 6 machines were not set up" in said
    for machine in (bare, fixed, other):
        assert machine.run("ls", "/etc/countersign", check=False) == ""
    fixed.run("umount", "/etc")
    dies.start()
    dies.ready()
    dies.run("rm", "-r", drop)
    assert states(inv(fleet, "containerd.setup", "--on", dies.url() + "," + well.url())[1]) == {
        dies.url(): "done",
        well.url(): "done",
    }
