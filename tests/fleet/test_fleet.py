"""Machines that join a cluster, take policies and leave it: real agents, gates and runtimes, a real API server.

``INVOKE_TESTS_MACHINES=50`` has that many instead of the few that CI has; ``-s`` shows what was measured.
"""

from __future__ import annotations

import time

import pytest

from countersign.console import output
from tests.fleet.conftest import COUNT, Fleet, until

pytestmark = pytest.mark.timeout(300 + 60 * COUNT)


def test_machines_that_join_lose_the_taint_once_each_has_proven_itself(fleet: Fleet) -> None:
    fleet.join(fleet.machines)
    names = {machine.name for machine in fleet.machines}
    assert fleet.tainted() | set(fleet.nodes()) == names
    took = until(lambda: not fleet.tainted(), fleet.nodes)
    nodes = fleet.nodes()
    assert {one["phase"] for one in nodes.values()} == {"Enforcing"}
    for one in nodes.values():
        assert {each["reason"] for each in one["receipt"]["refused"]} == {"UNSIGNED"}
    output.say(f"{COUNT} machines: the last taint was gone {took:.1f} s after the last agent began; {fleet.asked()}")


def test_a_policy_is_what_the_last_gate_decides_by(fleet: Fleet) -> None:
    rows = (("reject", "ACCEPTED_BY_SCOPE", "REJECTED_BY_SCOPE"), ("accept", "REJECTED_BY_SCOPE", "ACCEPTED_BY_SCOPE"))
    for rule, was, now in rows:
        assert {fleet.verdict(machine) for machine in fleet.machines} == {was}
        before, left = fleet.asked(), list(fleet.machines)
        began = time.monotonic()
        fleet.cluster.apply([fleet.policy(rule)])
        while left:
            left = [machine for machine in left if fleet.verdict(machine) != now]
            assert time.monotonic() < began + 60 + COUNT, [machine.name for machine in left]
        took = time.monotonic() - began
        time.sleep(10)  # what follows
        after = fleet.asked()
        more = {key: after[key] - before.get(key, 0) for key in after if after[key] != before.get(key, 0)}
        output.say(f"{COUNT} gates: the last decides by the new policy after {took:.2f} s; within 10 s more: {more}")


def test_two_policies_for_one_node_change_nothing(fleet: Fleet) -> None:
    fleet.cluster.apply([fleet.policy("reject", "other")])
    until(
        lambda: all("are all for node" in one.get("policyMessage", "") for one in fleet.nodes().values()), fleet.nodes
    )
    assert {fleet.verdict(machine) for machine in fleet.machines} == {"ACCEPTED_BY_SCOPE"}
    fleet.cluster.run("delete", "countersignpolicy", "other")
    until(lambda: not any(one.get("policyMessage") for one in fleet.nodes().values()), fleet.nodes)


def test_who_leaves_is_forgotten_and_another_machine_of_the_same_name_proves_anew(fleet: Fleet) -> None:
    left, stay = fleet.machines[:-1], fleet.machines[-1]
    again = left[0]
    proven = fleet.nodes()[again.name]["provenAt"]
    for machine in left:
        machine.stop()
    fleet.cluster.run("delete", "node", *(machine.name for machine in left))
    until(lambda: set(fleet.nodes()) == {stay.name}, fleet.nodes)
    assert fleet.nodes()[stay.name]["phase"] == "Enforcing"
    assert len(str(fleet.get("countersignpolicy", "fleet")["status"])) < 1000
    again.anew()
    again.start()
    again.ready()
    fleet.join([again])
    assert fleet.tainted() == {again.name}
    until(lambda: not fleet.tainted(), fleet.nodes)
    assert fleet.nodes()[again.name]["provenAt"] > proven
    assert fleet.verdict(again) == "ACCEPTED_BY_SCOPE"
