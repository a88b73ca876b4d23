"""The chart, its nodes and its API server when something is in the way: rights, paths, versions, joining, restarts."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from containerd.machine import CGROUP, SLICE
from countersign.console.sources import load_settings
from countersign.cri.client import Client
from countersign.cri.errors import CriError
from countersign.cri.model import Container
from countersign.tools.resolver import tool
from kind import engine
from tests.rollout.site import FILES, GOOD, NAME, NAMESPACE, OTHER, SCOPES, Site, as_agent, until

PORT = 9479
API_SERVER = "/etc/kubernetes/manifests/kube-apiserver.yaml"
SIMULATED = 20
"""Nodes that are objects of the API server alone: no kubelet stands behind them."""


@pytest.fixture
def enforcing(site: Site) -> Site:
    """The cluster with every node under enforcement, as a test that is tried alone needs it."""
    known = site.kubectl("get", "crd", "countersignnodes.countersign.dev", "--ignore-not-found")
    if not known or {each.get("phase") for each in site.nodes().values()} != {"Enforcing"}:
        done = site.install(SCOPES, "--timeout", "180s")
        assert done.returncode == 0, done.stderr
    return site


@pytest.mark.timeout(300)
def test_who_may_not_install_the_chart_changes_nothing(site: Site) -> None:
    site.kubectl("--namespace", NAMESPACE, "create", "serviceaccount", "deployer")
    account = f"--serviceaccount={NAMESPACE}:deployer"
    site.kubectl("--namespace", NAMESPACE, "create", "rolebinding", "deployer", "--clusterrole=admin", account)
    known = yaml.safe_load(site.kubeconfig.read_text(encoding="utf-8"))
    known["users"][0]["user"] = {"token": site.kubectl("--namespace", NAMESPACE, "create", "token", "deployer")}
    kubeconfig = site.state / "deployer.yaml"
    kubeconfig.write_text(yaml.safe_dump(known), encoding="utf-8")
    done = site.install(SCOPES, "--timeout", "20s", kubeconfig=kubeconfig)
    assert done.returncode != 0
    assert "forbidden" in done.stderr
    assert not site.get("daemonsets", "--namespace", NAMESPACE)["items"]
    assert site.worker.run(["sh", "-c", FILES]).text == site.files


@pytest.mark.timeout(300)
def test_a_node_with_a_read_only_path_is_left_as_it_is_and_says_so(site: Site) -> None:
    with _read_only(site, "/usr/local"):
        done = site.install(SCOPES, "--timeout", "20s")
        assert done.returncode != 0
        until(lambda: site.nodes().get(site.control.name, {}).get("phase") == "Enforcing", str(site.nodes()))
        until(lambda: site.nodes().get(site.worker.name, {}).get("reason") == "NotInstalled", str(site.nodes()))
        status = site.nodes()[site.worker.name]
        assert status["phase"] == "NotEnforcing"
        assert "/usr/local" in status["message"]
        told = [each for each in site.events("NotEnforcing") if each["involvedObject"]["name"] == site.worker.name]
        assert any("/usr/local" in each["message"] for each in told)
        assert site.worker.run(["sh", "-c", FILES]).text == site.files
    until(lambda: site.nodes()[site.worker.name]["phase"] == "Enforcing", str(site.nodes()))


@contextmanager
def _read_only(site: Site, folder: str) -> Iterator[None]:
    site.worker.run(["mount", "--bind", folder, folder])
    site.worker.run(["mount", "-o", "remount,ro,bind", folder])
    try:
        yield
    finally:
        site.worker.run(["umount", "--lazy", folder])  # the agent may be looking at it


@pytest.mark.timeout(300)
def test_a_refused_pod_is_told_why_once(enforcing: Site) -> None:
    site = enforcing
    refused, _ = site.pod("not-ours", OTHER), site.pod("ours", GOOD)
    assert refused
    told: list[dict[str, Any]] = []

    def seen() -> bool:
        events = site.events("ImageRefused")
        told[:] = [each for each in events if each["involvedObject"]["name"] in {"not-ours", "ours"}]
        return bool(told)

    until(seen, "no event")
    (event,) = told
    assert event["involvedObject"]["name"] == "not-ours"
    assert event["involvedObject"]["uid"]
    assert event["metadata"]["annotations"] == {"countersign.dev/code": "NO_SCOPE"}
    assert event["source"] == {"component": "countersign-agent", "host": site.worker.name}
    assert f"countersign: refused {OTHER}" in event["message"]
    assert "NO_SCOPE" in event["message"]


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({}, ""),
        ({"source": {"component": "countersign-agent", "host": "another"}}, "an agent's events are its own node's"),
        ({"reason": "Scheduled"}, "and of pods that they were refused"),
        ({"involvedObject": {"kind": "Secret", "namespace": "kube-system", "name": "x"}}, "an agent tells of nodes"),
    ],
)
def test_an_agent_tells_pods_nothing_else(site: Site, changed: dict[str, Any], says: str) -> None:
    event: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "tried"},
        "type": "Warning",
        "reason": "ImageRefused",
        "message": "tried",
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": "kube-system", "name": "x"},
        "source": {"component": "countersign-agent", "host": site.worker.name},
    }
    answer = as_agent(site, "POST", "/api/v1/namespaces/kube-system/events?dryRun=All", event | changed)
    assert answer["kind"] == ("Status" if says else "Event"), answer
    assert says in answer["message"]


@pytest.mark.timeout(300)
def test_metrics_are_scraped_by_who_has_a_good_token_alone(site: Site, tmp_path: Path) -> None:
    done = site.install(SCOPES, "--set", f"monitoring.port={PORT}", "--timeout", "120s")
    assert done.returncode == 0, done.stderr
    namespace = ("--namespace", NAMESPACE)
    site.kubectl(*namespace, "create", "serviceaccount", "scraper")
    site.kubectl("create", "clusterrole", "metrics-reader", "--verb=get", "--non-resource-url=/metrics")
    account = f"--serviceaccount={NAMESPACE}:scraper"
    site.kubectl("create", "clusterrolebinding", "scraper", "--clusterrole=metrics-reader", account)
    good = site.kubectl(*namespace, "create", "token", "scraper").strip()
    without = site.kubectl(*namespace, "create", "token", "default").strip()
    address = next(
        each["address"]
        for each in site.get("node", site.worker.name)["status"]["addresses"]
        if each["type"] == "InternalIP"
    )
    status, metrics = _asked(site, address, good)
    assert (status, "countersign_policy_valid 1" in metrics) == ("200", True)
    for token, code in ((good[:-8] + "AAAAAAAA", "401"), ("", "401"), (without, "403")):
        assert _asked(site, address, token)[0] == code
    assert _up(tmp_path, address, good) == {"up": 1.0, "countersign_policy_valid": 1.0}
    assert _up(tmp_path, address, without) == {"up": 0.0}


def _asked(site: Site, address: str, token: str) -> tuple[str, str]:
    """Return status and body of what curl is given, as docs/metrics.md has it."""
    script = (
        'read -r token; printf \'header = "Authorization: Bearer %s"\\n\' "$token" | '
        'curl --silent --config - --insecure --write-out "\\n%{http_code}" "$0"'
    )
    url = f"https://{address}:{PORT}/metrics"
    body, _, status = site.control.run(["bash", "-c", script, url], input=token.encode() + b"\n").text.rpartition("\n")
    return status.strip(), body


def _up(folder: Path, address: str, token: str) -> dict[str, float]:
    """Have a Prometheus scrape the worker, and return what it then knows of that target."""
    folder.joinpath("token").write_text(token, encoding="utf-8")
    job = {
        "job_name": "countersign",
        "scheme": "https",
        "tls_config": {"insecure_skip_verify": True},
        "authorization": {"credentials_file": "token"},
        "scrape_interval": "1s",
        "static_configs": [{"targets": [f"{address}:{PORT}"], "labels": {"instance": "worker"}}],
    }
    folder.joinpath("prometheus.yml").write_text(yaml.safe_dump({"scrape_configs": [job]}), encoding="utf-8")
    program = tool("promtool", load_settings()).with_name("prometheus")
    listen, data = "127.0.0.1:19479", folder / f"data-{len(list(folder.iterdir()))}"
    argv = [str(program), f"--web.listen-address={listen}", f"--storage.tsdb.path={data}"]
    with subprocess.Popen([*argv, "--config.file=prometheus.yml"], cwd=folder, stderr=subprocess.DEVNULL) as server:
        try:
            found: dict[str, float] = {}

            def scraped() -> bool:
                for name in ("up", "countersign_policy_valid"):
                    url = f"http://{listen}/api/v1/query?query={name}"
                    answer = subprocess.run(["curl", "--silent", url], capture_output=True, check=False).stdout
                    for each in json.loads(answer or "{}").get("data", {}).get("result", []):
                        found[name] = float(each["value"][1])
                return "up" in found and (found["up"] == 0 or "countersign_policy_valid" in found)

            until(scraped, "Prometheus has not scraped", within=30)
        finally:
            server.terminate()
    return found


@pytest.mark.timeout(300)
def test_a_node_that_restarts_without_an_api_server_goes_on_enforcing(enforcing: Site) -> None:
    site = enforcing
    before = site.nodes()[site.worker.name]["provenAt"]
    site.control.run(["mv", API_SERVER, "/root/kube-apiserver.yaml"])
    try:
        until(lambda: "refused" in site.kubectl("get", "nodes", check=False), "the API server goes on")
        site.worker.run(["systemctl", "restart", "containerd"])
        assert _started(site, GOOD) == ""
        assert "NO_SCOPE" in _started(site, OTHER)
        engine.docker_client(load_settings()).containers.get(site.worker.container).restart(timeout=20)
        until(lambda: site.worker.run(["ctr", "version"], check=False).code == 0, "containerd does not come back")
        assert _started(site, GOOD) == ""
        assert "NO_SCOPE" in _started(site, OTHER)
    finally:
        site.control.run(["mv", "/root/kube-apiserver.yaml", API_SERVER])
        until(lambda: "Ready" in site.kubectl("get", "nodes", check=False), "the API server stays away", within=120)
    until(lambda: site.nodes()[site.worker.name]["provenAt"] != before, "the agent proves nothing anew", within=120)
    assert {each["phase"] for each in site.nodes().values()} == {"Enforcing"}


def _started(site: Site, image: str) -> str:
    """Start a container on the worker by CRI, as a kubelet does, and return why it was refused; "" where it ran.

    What a runtime that has just come back does not do, or its gate, is tried again, as kubelets do.
    """
    reason = ""

    def decided() -> bool:
        nonlocal reason
        reason = _tried(site, image)
        return not reason or ("countersign: refused" in reason and "GATE_DOWN" not in reason)

    until(decided, f"{image} neither ran nor was refused")
    return reason


def _tried(site: Site, image: str) -> str:
    config = site.worker.run(["cat", "/etc/containerd/config.toml"]).text
    parent = SLICE if "SystemdCgroup = true" in config else CGROUP
    socket = site.worker.forward("/run/containerd/containerd.sock")
    try:
        with Client(socket, cgroup_parent=parent) as client, client.pod() as pod:
            client.run(pod, Container(image=image, command=("/countersign-gate", "version")))
    except CriError as error:
        return error.message
    return ""


@pytest.mark.timeout(400)
def test_no_unsigned_pod_ever_runs_on_a_node_that_joins_while_pods_are_scheduled(enforcing: Site) -> None:
    site = enforcing
    worker = site.worker.name
    site.kubectl("patch", "countersignnode", worker, "--type=merge", '--patch={"spec":{"retire":true}}')
    until(lambda: site.nodes()[worker]["phase"] == "Removed", str(site.nodes()))
    assert site.worker.run(["sh", "-c", FILES]).text == site.files
    site.worker.run(["systemctl", "stop", "kubelet"])
    site.kubectl("delete", "node", worker, "--wait=false")
    until(lambda: worker not in site.nodes(), "the CountersignNode of a node that is gone stays")
    for name, image in (("eager-other", OTHER), ("eager-good", GOOD)):  # through the scheduler, from now on
        site.kubectl("apply", "--filename=-", document=_deployment(name, image, worker))
    _registered_with(site, "countersign.dev/not-enforcing=true:NoExecute")
    site.kubectl("apply", "--filename=-", document=_direct("direct-other", OTHER, worker))  # past the scheduler
    site.worker.run(["systemctl", "start", "kubelet"])
    ran: list[str] = []

    def has_proven() -> bool:
        ran.extend(each for each in _ran(site) if each not in ran)
        return site.nodes().get(worker, {}).get("phase") == "Enforcing"

    until(has_proven, "the node that joined does not come to enforce", within=150)
    until(lambda: has_proven() and GOOD in ran, "nothing runs on the node that joined")
    until(lambda: any("NO_SCOPE" in each["message"] for each in site.events("ImageRefused")), "nothing was refused")
    assert has_proven()
    assert OTHER not in ran
    site.kubectl("delete", "deployment", "eager-other", "eager-good", "--wait=false")
    site.kubectl("delete", "pod", "direct-other", "--now", "--ignore-not-found", "--wait=false")


def _registered_with(site: Site, taint: str) -> None:
    """Have the worker's kubelet register with a taint, as docs/cluster.md says."""
    flags = "/var/lib/kubelet/kubeadm-flags.env"
    site.worker.run(["sed", "-i", f"s|--register-with-taints=[^ ]*|--register-with-taints={taint}|", flags])
    assert taint in site.worker.run(["cat", flags]).text


def _spec(image: str) -> dict[str, Any]:
    container = {"name": "it", "image": image, "imagePullPolicy": "Never", "command": ["/countersign-gate", "version"]}
    return {"automountServiceAccountToken": False, "hostNetwork": True, "containers": [container]}


def _direct(name: str, image: str, node: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": _spec(image) | {"nodeName": node}}


def _deployment(name: str, image: str, node: str) -> dict[str, Any]:
    labels = {"app": name}
    spec = _spec(image) | {"nodeSelector": {"kubernetes.io/hostname": node}}
    template = {"metadata": {"labels": labels}, "spec": spec}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": template},
    }


def _ran(site: Site) -> set[str]:
    """Return the images of containers in default that run, or did."""
    return {
        pod["spec"]["containers"][0]["image"]  # as written: statuses show any name of the same content
        for pod in site.get("pods")["items"]
        for each in pod["status"].get("containerStatuses", [])
        for state in (each.get("state", {}), each.get("lastState", {}))
        if "running" in state or state.get("terminated", {}).get("exitCode") == 0
    }


@pytest.mark.timeout(300)
def test_what_is_known_of_nodes_goes_with_them(enforcing: Site) -> None:
    site = enforcing
    real = set(site.nodes())
    names = [f"simulated-{number}" for number in range(SIMULATED)]
    site.kubectl("create", "--filename=-", document=_list([_node(name) for name in names]))
    uids = {each["metadata"]["name"]: each["metadata"]["uid"] for each in site.get("nodes")["items"]}
    owned = [_countersign_node(name, uids[name]) for name in names]
    site.kubectl("create", "--filename=-", document=_list(owned))
    assert set(site.nodes()) == real | set(names)
    assert {each["phase"] for name, each in site.nodes().items() if name in real} == {"Enforcing"}
    site.kubectl("delete", "node", *names)
    until(lambda: set(site.nodes()) == real, str(set(site.nodes()) - real))
    assert {each["phase"] for each in site.nodes().values()} == {"Enforcing"}


def _list(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "List", "items": items}


def _node(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"kubernetes.io/os": "linux"}}}


def _countersign_node(name: str, uid: str) -> dict[str, Any]:
    """Return what an agent writes of its node."""
    owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid}
    metadata = {"name": name, "ownerReferences": [owner]}
    return {"apiVersion": "countersign.dev/v1alpha1", "kind": "CountersignNode", "metadata": metadata}


@pytest.mark.timeout(300)
def test_policies_of_another_version_change_nothing_and_nodes_say_so(site: Site) -> None:
    site.kubectl("apply", "--filename=-", document=site.manifest("all", SCOPES))
    done = site.install(SCOPES, "--set", "policy.source=CountersignPolicy", "--timeout", "120s")
    assert done.returncode == 0, done.stderr
    until(lambda: site.in_force("all").get("reason") == "Taken", str(site.nodes()))
    before = {name: each["policy"] for name, each in site.nodes().items()}
    name = "countersignpolicies.countersign.dev"
    versions = site.get("crd", name)["spec"]["versions"]
    newer = [each | {"served": False, "storage": False} for each in versions] + [versions[0] | {"name": "v2"}]
    site.kubectl("patch", "crd", name, "--type=merge", f"--patch={json.dumps({'spec': {'versions': newer}})}")
    until(
        lambda: all("of another version" in each.get("policyMessage", "") for each in site.nodes().values()),
        str(site.nodes()),
    )
    told = {each["involvedObject"]["name"] for each in site.events("PolicyNotInForce") if "version" in each["message"]}
    assert told == set(site.nodes())
    assert {name: each["policy"] for name, each in site.nodes().items()} == before
    assert "NO_SCOPE" in json.dumps(site.pod("still-refused", OTHER))
    assert site.pod("still-runs", GOOD)["terminated"]["exitCode"] == 0
    known = [*versions, versions[0] | {"name": "v2", "served": False, "storage": False}]
    site.kubectl("patch", "crd", name, "--type=merge", f"--patch={json.dumps({'spec': {'versions': known}})}")
    until(lambda: not any(each.get("policyMessage") for each in site.nodes().values()), str(site.nodes()))


@pytest.mark.timeout(300)
def test_helm_uninstall_after_all_of_that_leaves_nothing_of_ours(site: Site) -> None:
    done = site.helm("uninstall", NAME, "--wait", "--timeout", "120s")
    assert done.returncode == 0, f"{done.stderr}\n{site.nodes()}"
    assert {each["phase"] for each in site.nodes().values()} == {"Removed"}
    for left in ("/usr/local/bin/countersign-gate", "/etc/countersign", "/var/lib/countersign"):
        assert not site.worker.exists(left)  # the network's files are others: the node that joined has other addresses
