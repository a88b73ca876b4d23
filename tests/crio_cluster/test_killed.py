"""An install on a node with CRI-O that is killed, or whose CRI-O does not come back; the cluster is not asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from countersign.nodes.node import Node
from tests.crio_cluster.site import Site
from tests.rollout.site import inv, until
from tests.vagrant import own

JOURNAL = "/var/lib/countersign/installed.json"
DROP_IN = "/etc/crio/crio.conf.d/99-countersign.conf"
WATCH = "/etc/systemd/system/crio.service.d/50-tests.conf"
STAGES = {
    "it has begun": f"[ -e {JOURNAL} ]",
    "programs are there": "[ -e /usr/local/bin/countersign-gate ]",
    "gate.json is there": "[ -e /etc/countersign/gate.json ]",
    "CRI-O's engine has the policy": "[ -e /etc/countersign/crio/policy.json ]",
    "the hook is there": "[ -e /etc/countersign/crio/hooks.d/countersign.json ]",
    "the gate runs": "[ -S /run/countersign/gate.sock ]",
    "CRI-O is configured": f"[ -e {DROP_IN} ]",
    "CRI-O is stopped to be started anew": '[ "$(pidof crio)" != "$crio" ]',
    "CRI-O is back": '[ "$(systemctl show -P MainPID crio)" != "$crio" ] && systemctl is-active --quiet crio',
    "it is being proven": "[ -e /etc/containers/certs.d/127.*:* ]",
}
"""What is the case on the machine when install is killed."""
OFF = [(each, "uninstall") for each in ("programs are there", "CRI-O is configured", "it is being proven")]
KILLED = """
crio=$(pidof crio)
"$@" >/dev/null 2>&1 & install=$!
until {stage}; do kill -0 $install || exit 9; done
kill -9 $install
"""


@pytest.fixture
def gate(site: Site) -> list[str]:
    """How the node installs itself, with what its owner brought along; it knows nothing of us now."""
    assert site.every() == site.files
    return own.bring_gate(site.settings, site.node, site.users, inv)


@pytest.mark.timeout(200)
@pytest.mark.parametrize(("stage", "then"), [*((each, "install") for each in STAGES), *OFF])
def test_what_was_killed_is_completed_or_taken_back(site: Site, gate: list[str], stage: str, then: str) -> None:
    killed = site.node.run(["sh", "-c", KILLED.format(stage=STAGES[stage]), "sh", *gate], check=False)
    assert killed.code == 0, f"it ended before: {killed.stderr.decode()}"
    until(lambda: site.node.run(["crio", "status", "config"], check=False).code == 0, "CRI-O does not come back")
    if then == "install":
        receipt = json.loads(site.node.run([*gate, "--json"], timeout=120).text)["receipt"]
        assert receipt["proven"] == {"refuse": True, "allow": True}
        assert json.loads(site.node.run([*gate, "--json"], timeout=120).text)["changed"] == 0
    site.node.run([gate[0], "uninstall"], timeout=120)
    assert_as_it_was(site)


@pytest.mark.timeout(200)
def test_what_was_killed_is_taken_back_by_an_install_that_fails(site: Site, gate: list[str]) -> None:
    killed = site.node.run(["sh", "-c", KILLED.format(stage=STAGES["the gate runs"]), "sh", *gate], check=False)
    assert killed.code == 0, f"it ended before: {killed.stderr.decode()}"
    with failing(site.node, "exit 1"):
        done = site.node.run(gate, check=False, timeout=120)
        assert done.code == 4
        assert "the node is as it was before" in done.stderr.decode()
        assert not site.node.exists(JOURNAL)
    assert_as_it_was(site)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", ["exit 1", "sleep 60"])
def test_a_crio_that_does_not_come_back_by_our_settings_is_undone(site: Site, gate: list[str], how: str) -> None:
    with failing(site.node, how):
        before = site.node.run(["systemctl", "show", "-P", "ActiveState", "crio"]).text
        done = site.node.run(gate, check=False, timeout=200)
        said = done.stderr.decode()
        assert (done.code, before) == (4, "active"), said
        assert "crio.service did not start" in said
        assert said.rstrip().endswith("the node is as it was before"), said
        assert len(said.rstrip().splitlines()[-1]) < 2000
        assert site.node.run(["systemctl", "is-active", "crio"]).text == "active"
    assert_as_it_was(site)
    json.loads(site.node.run([*gate, "--json"], timeout=120).text)  # the twin: without that it is installed
    site.node.run([gate[0], "uninstall"], timeout=120)
    assert_as_it_was(site)


@contextmanager
def failing(node: Node, how: str) -> Iterator[None]:
    """Have CRI-O not start by our settings."""
    start = f"/bin/sh -c 'if [ -e {DROP_IN} ]; then {how}; fi'"
    node.run(["mkdir", "-p", WATCH.rpartition("/")[0]])
    node.put(f"[Service]\nTimeoutStartSec=5\nExecStartPre={start}\n".encode(), WATCH)
    node.run(["systemctl", "daemon-reload"])
    try:
        yield
    finally:
        node.run(["rm", "-r", WATCH.rpartition("/")[0]])
        node.run(["systemctl", "daemon-reload"])


def assert_as_it_was(site: Site) -> None:
    """Nothing of ours is there, what runs is what ran, and an unsigned image starts."""
    assert site.every() == site.files
    left = "ls -d /var/lib/countersign /run/countersign /var/log/countersign 2>/dev/null || true"
    assert site.node.run(["sh", "-c", left]).text == ""
    assert site.node.run(["sh", "-c", "pidof countersign-gate || true"]).text == ""
    assert site.node.run(["systemctl", "is-active", "crio"]).text == "active"
    runs_by = site.node.run(["crio", "status", "config"]).text
    assert "signature_policy" in runs_by
    assert "/etc/countersign" not in runs_by
