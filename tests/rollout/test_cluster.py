"""The chart on a Kind cluster that knows nothing of us, in the order in which a platform team meets it."""

from __future__ import annotations

import hashlib
import json

import pytest

from tests.rollout.site import FILES, GOOD, NAME, NAMESPACE, OTHER, SCOPES, SIGNED, Site, as_agent, until


@pytest.mark.timeout(900)
def test_a_policy_that_would_refuse_what_runs_leaves_the_node_as_it_is(site: Site) -> None:
    done = site.install({"cluster.test": "accept"}, "--timeout", "15s")
    assert done.returncode != 0
    status = site.nodes()[site.worker.name]
    assert (status["phase"], status["reason"]) == ("NotEnforcing", "NotInstalled")
    assert "nothing was changed" in status["message"]
    said = site.kubectl("--namespace", NAMESPACE, "logs", f"--selector=app.kubernetes.io/instance={NAME}")
    assert "would be refused: kube-system/" in said
    assert "NO_SCOPE" in said
    assert site.worker.run(["sh", "-c", FILES]).text == site.files
    assert "countersign.dev/not-enforcing" in site.taints(site.worker.name)


@pytest.mark.timeout(300)
def test_nodes_that_observe_refuse_nothing_and_say_what_they_would(site: Site) -> None:
    done = site.install(SCOPES, "--set", "phase=observe", "--timeout", "90s")
    assert done.returncode == 0, done.stderr
    assert {each["phase"] for each in site.nodes().values()} == {"Observing"}
    assert "countersign.dev/not-enforcing" not in site.taints(site.worker.name)
    assert site.pod("seen", OTHER)["terminated"]["exitCode"] == 0
    assert site.pod("fine", GOOD)["terminated"]["exitCode"] == 0

    def reported() -> list[tuple[str, str]]:
        seen = site.nodes()[site.worker.name]["observed"].get("images", [])
        return [(each["image"], each["code"]) for each in seen]

    until(lambda: reported() == [(OTHER, "NO_SCOPE")], str(site.nodes()))
    assert site.worker.run(["sh", "-c", FILES]).text == site.files


@pytest.mark.timeout(600)
def test_nodes_follow_their_canaries_and_halt_when_one_refuses_for_want_of_a_verdict(site: Site) -> None:
    scopes = SCOPES | {"signed.test": "{anyOf: [key]}"}
    values = ["--set", "enforce.canaries.canary=yes", "--set", "enforce.soak=1h", "--timeout", "90s"]
    done = site.install(scopes, *values)
    assert done.returncode == 0, done.stderr
    assert {each["reason"] for each in site.nodes().values()} == {"WaitingForCanaries"}
    site.kubectl("label", "node", site.worker.name, "canary=yes")
    until(lambda: site.nodes()[site.worker.name]["phase"] == "Enforcing", str(site.nodes()))
    assert site.nodes()[site.control.name]["reason"] == "WaitingForCanaries"
    assert site.pod("unknown", SIGNED).get("terminated", {}).get("exitCode") != 0
    until(lambda: site.nodes()[site.control.name]["phase"] == "Halted", str(site.nodes()))
    assert site.nodes()[site.control.name]["reason"] == "NoVerdict"
    assert site.nodes()[site.worker.name]["phase"] == "Enforcing"
    reasons = {each["reason"] for each in site.get("events", "--namespace", "default")["items"]}
    assert {"Halted", "RolloutHalted"} <= reasons


@pytest.mark.timeout(300)
def test_a_node_goes_back_to_observe(site: Site) -> None:
    done = site.install(SCOPES, "--set", "phase=observe", "--timeout", "90s")
    assert done.returncode == 0, done.stderr
    until(lambda: {each["phase"] for each in site.nodes().values()} == {"Observing"}, str(site.nodes()))
    assert site.worker.run(["sh", "-c", FILES]).text == site.files


@pytest.mark.timeout(300)
def test_every_node_proves_itself_and_then_takes_pods(site: Site) -> None:
    done = site.install(SCOPES, "--timeout", "120s", "--set", "restrictTolerations.enabled=true")
    assert done.returncode == 0, done.stderr
    until(lambda: [each.get("phase") for each in site.nodes().values()] == ["Enforcing"] * 2, str(site.nodes()))
    for status in site.nodes().values():
        assert {each["reason"] for each in status["receipt"]["refused"]} == {"UNSIGNED"}
        assert {each["layer"] for each in status["receipt"]["refused"]} == {"pull", "create"}
        assert status["receipt"]["proven"] == {"refuse": True, "allow": True}
    assert "countersign.dev/not-enforcing" not in site.taints(site.worker.name)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("namespace", "toleration", "may"),
    [
        ("default", {"key": "countersign.dev/not-enforcing", "operator": "Exists"}, False),
        ("default", {"key": "countersign.dev/not-enforcing", "value": "true", "effect": "NoExecute"}, False),
        ("default", {"operator": "Exists"}, False),
        ("default", {"key": "other", "operator": "Exists"}, True),
        ("kube-system", {"operator": "Exists"}, True),
    ],
)
def test_only_named_namespaces_may_tolerate_the_taint(
    site: Site, namespace: str, toleration: dict[str, str], may: bool
) -> None:
    container = {"name": "it", "image": GOOD, "imagePullPolicy": "Never"}
    spec = {"tolerations": [toleration], "containers": [container], "automountServiceAccountToken": False}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "tolerates", "namespace": namespace}, "spec": spec}
    said = ""

    def answered() -> bool:  # an admission policy takes a moment to be there
        nonlocal said
        said = site.kubectl("create", "--dry-run=server", "--filename=-", document=pod, check=False)
        return ("may not tolerate the taint" in said) is not may

    until(answered, said, within=20)
    assert ("created (server dry run)" in said) is may


@pytest.mark.timeout(300)
def test_an_image_that_was_loaded_is_judged_by_its_name(site: Site) -> None:
    assert site.pod("good", GOOD)["terminated"]["exitCode"] == 0
    refused = site.pod("other", OTHER)
    assert "NO_SCOPE" in refused["waiting"]["message"] if "waiting" in refused else refused["terminated"]["message"]


@pytest.mark.timeout(300)
def test_a_changed_policy_reaches_every_node(site: Site) -> None:
    data = {"policy.json": site.policy(SCOPES | {"good.test": "reject"}).read_text(encoding="utf-8")}
    wanted = "sha256:" + hashlib.sha256(data["policy.json"].encode()).hexdigest()
    patch = json.dumps({"data": data})
    site.kubectl("--namespace", NAMESPACE, "patch", "configmap", f"{NAME}-policy", "--type=merge", f"--patch={patch}")
    until(lambda: {each.get("policy") for each in site.nodes().values()} == {wanted}, str(site.nodes()))
    assert "REJECTED_BY_SCOPE" in json.dumps(site.pod("now-bad", GOOD))
    bad = json.dumps({"data": {"policy.json": "{}"}})
    site.kubectl("--namespace", NAMESPACE, "patch", "configmap", f"{NAME}-policy", "--type=merge", f"--patch={bad}")
    until(
        lambda: all("POLICY_INVALID" in each.get("policyMessage", "") for each in site.nodes().values()),
        str(site.nodes()),
    )
    assert {each.get("policy") for each in site.nodes().values()} == {wanted}


@pytest.mark.timeout(300)
def test_a_countersign_policy_reaches_every_node_within_seconds(site: Site) -> None:
    first = site.manifest("all", SCOPES)
    site.kubectl("apply", "--filename=-", document=first)
    done = site.install(SCOPES, "--set", "policy.source=CountersignPolicy", "--timeout", "120s")
    assert done.returncode == 0, done.stderr
    until(lambda: site.in_force("all").get("reason") == "Taken", str(site.nodes()))
    site.kubectl("apply", "--filename=-", document=site.manifest("all", SCOPES | {"good.test": "reject"}))
    wanted = hashlib.sha256(site.state.joinpath("policy.json").read_bytes()).hexdigest()
    look = ["sha256sum", "/etc/countersign/policy.json"]
    nodes = (site.control, site.worker)
    until(lambda: {each.run(look).text.split()[0] for each in nodes} == {wanted}, "not on the nodes", within=5)
    until(lambda: {each.get("policy") for each in site.nodes().values()} == {f"sha256:{wanted}"}, str(site.nodes()))
    assert "REJECTED_BY_SCOPE" in json.dumps(site.pod("rejected", GOOD))


@pytest.mark.timeout(300)
def test_a_bad_countersign_policy_changes_nothing_and_says_why(site: Site) -> None:
    before = {name: each.get("policy") for name, each in site.nodes().items()}
    bad = site.manifest("all", SCOPES)
    bad["spec"]["scopes"]["r.test"] = {"anyOf": ["nobody"]}
    assert "a scope names a root" in site.kubectl("apply", "--filename=-", document=bad, check=False)
    site.kubectl("apply", "--filename=-", document=site.manifest("another", SCOPES))
    until(lambda: site.in_force("another").get("reason") == "Conflict", "two policies for one node are taken")
    until(lambda: all("all, another" in each.get("policyMessage", "") for each in site.nodes().values()), "not told")
    assert {name: each.get("policy") for name, each in site.nodes().items()} == before
    site.kubectl("delete", "countersignpolicy", "another")
    until(lambda: not any(each.get("policyMessage") for each in site.nodes().values()), str(site.nodes()))
    bad = site.manifest("all", SCOPES)
    bad["spec"]["roots"]["key"]["publicKey"]["keys"] = ["nonsense"]
    site.kubectl("apply", "--filename=-", document=bad)
    until(lambda: site.in_force("all").get("reason") == "Invalid", "an invalid one is taken")
    assert "POLICY_INVALID" in site.in_force("all")["message"]
    assert {name: each.get("policy") for name, each in site.nodes().items()} == before
    site.kubectl("apply", "--filename=-", document=site.manifest("all", SCOPES))
    until(lambda: site.in_force("all").get("reason") == "Taken", str(site.in_force("all")))


@pytest.mark.timeout(300)
def test_a_node_that_stops_to_enforce_gets_its_taint_back(site: Site) -> None:
    hook = "/usr/local/bin/countersign-hook"
    site.worker.run(["mv", hook, f"{hook}.gone"])
    try:
        # a proof that is under way may say it first; the doctor does at the next look
        until(lambda: "gate.hook" in site.nodes()[site.worker.name].get("message", ""), "it goes on as Enforcing")
        assert site.nodes()[site.worker.name]["phase"] == "NotEnforcing"
        assert "countersign.dev/not-enforcing" in site.taints(site.worker.name)
    finally:
        site.worker.run(["mv", f"{hook}.gone", hook])
    until(lambda: site.nodes()[site.worker.name]["phase"] == "Enforcing", "it stays NotEnforcing")
    assert "countersign.dev/not-enforcing" not in site.taints(site.worker.name)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("node", "may"), [("worker", True), ("control", False)])
def test_an_agent_may_change_its_own_node_only(site: Site, node: str, may: bool) -> None:
    path = f"/apis/countersign.dev/v1alpha1/countersignnodes/{getattr(site, node).name}?dryRun=All"
    patch = {"metadata": {"annotations": {"tried": "yes"}}}
    answer = as_agent(site, "PATCH", path, patch, "application/merge-patch+json")
    if may:
        assert answer["metadata"]["annotations"]["tried"] == "yes"
    else:
        assert "the agent of another node may not change" in answer["message"]


@pytest.mark.timeout(300)
def test_helm_uninstall_leaves_the_nodes_as_they_were(site: Site) -> None:
    done = site.helm("uninstall", NAME, "--wait", "--timeout", "120s")
    said = site.kubectl("--namespace", NAMESPACE, "logs", f"job/{NAME}-retire", check=False)
    assert done.returncode == 0, f"{done.stderr}\n{said}\n{site.nodes()}"
    assert {each["phase"] for each in site.nodes().values()} == {"Removed"}
    assert site.worker.run(["sh", "-c", FILES]).text == site.files
    assert site.pod("free", OTHER)["terminated"]["exitCode"] == 0
