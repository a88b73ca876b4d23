"""The chart on a cluster whose node runs CRI-O, in the order in which a platform team meets it."""

from __future__ import annotations

import contextlib
import json
import threading
from typing import Any

import pytest

from countersign.cri.client import Client
from countersign.cri.errors import CriError
from countersign.cri.model import Container
from tests.crio_cluster import node as nodes
from tests.crio_cluster.site import NODE, OURS, SIGNED, Site, manifest
from tests.rollout.site import NAME, NAMESPACE, until
from tests.vagrant import own

SOCKET = "/var/run/crio/crio.sock"
TOLERATES: list[dict[str, str]] = [{"operator": "Exists"}]
NO_SIGNATURE = "A signature was required, but no signature exists"


def started(site: Site, pod: str) -> tuple[str, int]:
    """Return when a pod's container started, and how often it did again."""
    [status] = site.get("pod", pod)["status"]["containerStatuses"]
    return status["state"].get("running", {}).get("startedAt", ""), status["restartCount"]


@pytest.mark.timeout(600)
def test_what_runs_and_could_not_start_again_stops_an_install(site: Site) -> None:
    for name, image in (("early-signed", own.SIGNED), ("early-unsigned", own.UNSIGNED)):
        pod = manifest(name, image, nodeName=NODE, tolerations=TOLERATES)
        site.kubectl("apply", "--filename=-", document=pod)
    until(lambda: all(started(site, f"early-{each}")[0] for each in ("signed", "unsigned")), "the pods do not run")
    values = ["--set", f"image.repository={OURS}", "--set", f"image.digest={site.gates[0]}", "--set", "every=2s"]
    policy = site.rendered(SIGNED)
    done = site.upgrade(*values, "--set-file", f"policy.content={policy}", "--timeout", "20s")
    assert done.returncode != 0
    assert (site.status()["phase"], site.status()["reason"]) == ("NotEnforcing", "NotInstalled")
    assert "nothing was changed" in site.status()["message"]
    said = site.kubectl("--namespace", NAMESPACE, "logs", f"--selector=app.kubernetes.io/instance={NAME}")
    assert "would be refused: default/early-unsigned" in said
    assert "UNSIGNED" in said
    assert "default/early-signed" not in said
    assert site.every() == site.files
    assert "countersign.dev/not-enforcing" in site.taints(NODE)
    site.kubectl("delete", "pod", "early-unsigned", "--now")


@pytest.mark.timeout(300)
def test_the_node_proves_itself_while_what_runs_goes_on(site: Site) -> None:
    before, crio = started(site, "early-signed"), site.node.run(["pidof", "crio"]).text
    site.install()
    assert (site.status()["phase"], site.status()["runtime"].split()[0]) == ("Enforcing", "crio")
    receipt = site.status()["receipt"]
    assert {(each["layer"], each["reason"]) for each in receipt["refused"]} == {
        ("pull", "SignatureValidationFailed"),
        ("create", "UNSIGNED"),
    }
    assert receipt["proven"] == {"refuse": True, "allow": True}
    assert "countersign.dev/not-enforcing" not in site.taints(NODE)
    assert site.node.run(["pidof", "crio"]).text != crio  # started anew, by our settings
    assert started(site, "early-signed") == before
    site.kubectl("delete", "pod", "early-signed", "--now")


@pytest.mark.timeout(120)
def test_an_unsigned_image_is_refused_at_pull_and_a_signed_one_runs(site: Site) -> None:
    assert "running" in site.pod("pulled-signed", own.SIGNED, "Always")
    waiting = site.pod("pulled-unsigned", own.UNSIGNED, "Always")["waiting"]
    assert waiting["reason"] in {"SignatureValidationFailed", "ImagePullBackOff"}
    told = [each["message"] for each in site.events("Failed") if each["involvedObject"]["name"] == "pulled-unsigned"]
    assert any("SignatureValidationFailed: " in each and NO_SIGNATURE in each for each in told), told


@pytest.mark.timeout(120)
def test_an_image_pulled_before_the_policy_is_refused_at_create(site: Site) -> None:
    assert "running" in site.pod("cached-signed", own.SIGNED, "Never")
    waiting = site.pod("cached-unsigned", own.UNSIGNED, "Never")["waiting"]  # test_what_runs_… has pulled it
    assert waiting["reason"] == "CreateContainerError"
    assert f"SignatureValidationFailed: {NO_SIGNATURE}" in waiting["message"]


@pytest.mark.timeout(200)
def test_a_pod_that_the_gate_refuses_is_told_by_which_code(site: Site) -> None:
    site.install("--set", "crio.engine=lenient")
    assert "running" in site.pod("judged-signed", own.SIGNED, "Always")
    waiting = site.pod("judged-unsigned", own.UNSIGNED, "Always")["waiting"]
    assert waiting["reason"] == "CreateContainerError"
    assert f"countersign: refused {own.UNSIGNED}@sha256:" in waiting["message"]
    assert ": UNSIGNED: " in waiting["message"]

    def codes() -> dict[str, str]:
        events = site.events("ImageRefused")
        return {
            each["involvedObject"]["name"]: each["metadata"]["annotations"]["countersign.dev/code"] for each in events
        }

    until(lambda: "judged-unsigned" in codes(), str(site.events("ImageRefused")))
    assert codes() == {"judged-unsigned": "UNSIGNED"}
    site.install("--set", "crio.engine=strict")
    assert NO_SIGNATURE in site.pod("judged-again", own.UNSIGNED, "Never")["waiting"]["message"]


@pytest.mark.timeout(200)
def test_both_engines_follow_a_countersign_policy(site: Site) -> None:
    def apply(rule: str) -> None:
        policy = json.loads(site.rendered(rule, "cluster").read_text())
        policy["metadata"]["name"] = "all"
        site.kubectl("apply", "--filename=-", document=policy)

    def taken(serial: int) -> bool:
        return site.in_force("all").get("reason") == "Taken" and site.status().get("policySerial") == serial

    apply(SIGNED)
    first = json.loads((site.users.folder / "cluster.json").read_text())["spec"]["serial"]
    site.install("--set", "policy.source=CountersignPolicy")
    until(lambda: taken(first), f"{site.status()}")
    assert "running" in site.pod("by-first", own.SIGNED, "Never")
    apply("reject")
    until(lambda: taken(first + 1), f"{site.status()}")
    message = site.pod("by-second", own.SIGNED, "Never")["waiting"]["message"]
    assert "SignatureValidationFailed" in message
    assert "rejected by policy" in message
    apply(SIGNED)
    until(lambda: taken(first + 2), f"{site.status()}")
    assert "running" in site.pod("by-third", own.SIGNED, "Never")
    site.rendered(SIGNED)
    site.install()


@pytest.mark.timeout(200)
def test_no_start_is_refused_while_a_newer_gate_takes_over(site: Site) -> None:
    ended, failed, count = threading.Event(), [], 0

    def start() -> None:
        nonlocal count
        with Client(site.node.forward(SOCKET), cgroup_parent="countersign.slice") as client:
            found = client.image_status(own.SIGNED)
            assert found
            while not ended.is_set():
                pod = client.run_pod()
                try:
                    client.start(client.create(pod, Container(found.id, written=own.SIGNED, command=("/demo",))))
                except CriError as error:
                    failed.append(error.message)
                count += 1
                with contextlib.suppress(CriError):  # the kubelet removes pods that it does not know, too
                    client.remove_pod(pod.id)

    before, crio = gate(site), site.node.run(["pidof", "crio"]).text
    starts = threading.Thread(target=start)
    starts.start()
    try:
        site.install(gate=1)
        until(lambda: all(now != was for now, was in zip(gate(site), before, strict=True)), "the old gate goes on")
    finally:
        ended.set()
        starts.join()
    assert site.status()["phase"] == "Enforcing"
    assert site.node.run(["pidof", "crio"]).text == crio
    assert count > 5
    assert failed == []


def gate(site: Site) -> list[str]:
    """Return the gate's program, by its digest, and its process."""
    said = "sha256sum /usr/local/bin/countersign-gate | cut -c -64; systemctl show -P MainPID countersign-gate"
    return site.node.run(["sh", "-c", said]).text.split()


@pytest.mark.timeout(400)
def test_no_unsigned_pod_ever_runs_on_a_node_that_joins_while_pods_are_scheduled(site: Site) -> None:
    site.kubectl("patch", "countersignnode", NODE, "--type=merge", '--patch={"spec":{"retire":true}}')
    until(lambda: site.status()["phase"] == "Removed", str(site.status()))
    assert site.every() == site.files
    site.node.run(["systemctl", "stop", "kubelet"])
    site.kubectl("delete", "node", NODE, "--wait=false")
    until(lambda: not site.status(), "the CountersignNode of a node that is gone stays")
    for name, image in (("eager-unsigned", own.UNSIGNED), ("eager-signed", own.SIGNED)):  # through the scheduler
        site.kubectl("apply", "--filename=-", document=deployment(name, image))
    site.kubectl("apply", "--filename=-", document=manifest("direct-unsigned", own.UNSIGNED, nodeName=NODE))
    site.node.run(["systemctl", "start", "kubelet"])
    until(lambda: NODE in site.kubectl("get", "nodes", "--output=name"), "the node does not join")
    assert nodes.TAINT.partition("=")[0] in site.taints(NODE)
    ran: set[str] = set()

    def has_proven() -> bool:
        ran.update(running(site))
        return site.status().get("phase") == "Enforcing"

    until(has_proven, "the node that joined does not come to enforce", within=150)
    until(lambda: has_proven() and own.SIGNED in ran, "nothing runs on the node that joined")
    until(lambda: has_proven() and bool(refused(site, "eager-unsigned")), "nothing was refused")
    assert ran == {own.SIGNED}
    site.kubectl("delete", "deployment", "eager-unsigned", "eager-signed", "--wait=false")
    site.kubectl("delete", "pod", "direct-unsigned", "--now", "--ignore-not-found", "--wait=false")


def deployment(name: str, image: str) -> dict[str, Any]:
    """Return a deployment of two pods."""
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": manifest(name, image)["spec"]}
    spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def running(site: Site) -> set[str]:
    """Return the images, as written, of containers in default that run, or did."""
    return {
        pod["spec"]["containers"][0]["image"]
        for pod in site.get("pods")["items"]
        for each in pod["status"].get("containerStatuses", [])
        for state in (each.get("state", {}), each.get("lastState", {}))
        if "running" in state or "terminated" in state
    }


def refused(site: Site, prefix: str) -> list[str]:
    """Return what the kubelet said when pods were refused whose names begin so."""
    failed = [each for each in site.events("Failed") if each["involvedObject"]["name"].startswith(prefix)]
    return [each["message"] for each in failed if "SignatureValidationFailed" in each["message"]]


@pytest.mark.timeout(200)
def test_helm_uninstall_leaves_the_node_as_it_was(site: Site) -> None:
    done = site.helm("uninstall", NAME, "--wait", "--timeout", "120s")
    assert done.returncode == 0, f"{done.stderr}\n{site.status()}"
    assert site.status()["phase"] == "Removed"
    assert site.every() == site.files
    assert "running" in site.pod("after", own.UNSIGNED, "Never", tolerations=TOLERATES)
