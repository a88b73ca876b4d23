"""The chart on a Kind cluster that knows nothing of us, in the order in which a platform team meets it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from countersign.console.config import ROOT
from countersign.console.sources import load_settings
from countersign.nodes.docker import DockerNode
from countersign.tools.resolver import tool
from kind import cluster as clusters
from kind import engine

NAME, NAMESPACE = "countersign", "countersign-system"
OURS = "cluster.test/countersign/gate"
GOOD, OTHER, SIGNED = "good.test/program:1", "other.test/program:1", "signed.test/program:1"
SCOPES = {"cluster.test": "accept", "good.test": "accept", "registry.k8s.io": "accept", "countersign.test": "accept"}
"""Names of the system's own images, as far as this cluster's node image has them, and of the tests'."""
FILES = "find /etc /opt /usr/local -xdev -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum"


@dataclass(frozen=True)
class Site:
    """A cluster, and the ways to it."""

    state: Path
    kubeconfig: Path
    control: DockerNode
    worker: DockerNode
    digest: str
    files: str
    """What the worker had, as one digest."""

    def kubectl(self, *words: str, document: object = None, check: bool = True) -> str:
        """Run kubectl as an administrator, with a document on its stdin."""
        argv = ["kubectl", "--kubeconfig=/etc/kubernetes/admin.conf", *words]
        text = json.dumps(document).encode() if document is not None else b""
        done = self.control.run(argv, input=text, check=check, timeout=120)
        return done.text if check else done.text + done.stderr.decode()

    def get(self, *words: str) -> Any:
        """Return what kubectl gets."""
        return json.loads(self.kubectl("get", *words, "--output=json"))

    def nodes(self) -> dict[str, dict[str, Any]]:
        """Return the status of each CountersignNode."""
        return {each["metadata"]["name"]: each.get("status", {}) for each in self.get("countersignnodes")["items"]}

    def taints(self, node: str) -> list[str]:
        """Return the keys of a node's taints."""
        return [taint["key"] for taint in self.get("node", node)["spec"].get("taints", [])]

    def helm(self, *words: str, timeout: float = 200) -> subprocess.CompletedProcess[str]:
        """Run Helm."""
        argv = [
            str(tool("helm", load_settings())),
            *words,
            "--namespace",
            NAMESPACE,
            "--kubeconfig",
            str(self.kubeconfig),
        ]
        return subprocess.run(argv, capture_output=True, text=True, timeout=timeout, check=False)

    def install(self, scopes: dict[str, str], *more: str) -> subprocess.CompletedProcess[str]:
        """Install the chart, or upgrade it, with a policy of these scopes."""
        values = ["--set", f"image.repository={OURS}", "--set", f"image.digest={self.digest}", "--set", "every=2s"]
        policy = ["--set-file", f"policy.content={self.policy(scopes)}"]
        return self.helm(
            "upgrade", "--install", NAME, str(ROOT / "rollout" / "chart"), *values, *policy, "--wait", *more
        )

    def policy(self, scopes: dict[str, str]) -> Path:
        """Write a rendered policy."""
        written, rendered = self.state / "policy.yaml", self.state / "policy.json"
        lines = [f"  {scope}: {rule}" for scope, rule in scopes.items()]
        if not self.state.joinpath("key.pub").exists():
            key = ec.generate_private_key(ec.SECP256R1()).public_key()
            pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            self.state.joinpath("key.pub").write_bytes(pem)
        root = "roots: {key: {publicKey: {files: [key.pub]}}}"
        head = ["apiVersion: countersign/v1", "default: reject", root, "pinned: []", "scopes:"]
        written.write_text("\n".join([*head, *lines]) + "\n", encoding="utf-8")
        inv("policy.render", "--policy", str(written), "--out", str(rendered))
        return rendered

    def manifest(self, name: str, scopes: dict[str, str]) -> dict[str, Any]:
        """Render a CountersignPolicy."""
        self.policy(scopes)  # the same, for comparison
        document: dict[str, Any] = json.loads(
            inv("policy.render", "--engine", "cluster", "--policy", str(self.state / "policy.yaml"))
        )
        document["metadata"]["name"] = name
        return document

    def in_force(self, name: str) -> dict[str, Any]:
        """Return the condition of a CountersignPolicy."""
        conditions = self.get("countersignpolicy", name).get("status", {}).get("conditions", [{}])
        found: dict[str, Any] = conditions[0]
        return found

    def pod(self, name: str, image: str) -> dict[str, Any]:
        """Run a pod on the worker, past the scheduler, and return its container's state once it ran or was refused."""
        container = {
            "name": "it",
            "image": image,
            "imagePullPolicy": "Never",
            "command": ["/countersign-gate", "version"],
        }
        spec: dict[str, Any] = {"nodeName": self.worker.name, "restartPolicy": "Never", "containers": [container]}
        spec |= {"automountServiceAccountToken": False, "hostNetwork": True}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        self.kubectl("apply", "--filename=-", document=pod)
        found: dict[str, Any] = {}

        def settled() -> bool:
            statuses = self.get("pod", name)["status"].get("containerStatuses", [])
            found.clear()
            found.update(statuses[0]["state"] if statuses else {})
            waiting = found.get("waiting", {}).get("reason", "ContainerCreating")
            return "terminated" in found or ("waiting" in found and waiting != "ContainerCreating")

        until(settled, f"{name} neither ran nor was refused")
        self.kubectl("delete", "pod", name, "--now", "--wait=false")
        return found


def until(holds: Callable[[], bool], otherwise: str, within: float = 90) -> None:
    """Wait for something."""
    end = time.monotonic() + within
    while not holds():
        assert time.monotonic() < end, otherwise
        time.sleep(0.3)


def inv(*words: str, env: dict[str, str] | None = None) -> str:
    """Run tasks as a user does."""
    done = subprocess.run(
        [ROOT / "inv", *words], env=os.environ | (env or {}), capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A cluster without enforcement, whose worker joins with the taint, and our image on its nodes."""
    state = tmp_path_factory.mktemp("rollout")
    env = {"INVOKE_STATE": str(state), "INVOKE_KIND_CLUSTER": "rollout", "DOCKER_HOST": engine.url(load_settings())}
    try:
        inv("kind.create", env=env)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in env.items():
                patch.setenv(name, value)
            found = clusters.require(load_settings())
        archive = state / "gate.tar"
        written = json.loads(inv("rollout.image", "--name", f"{OURS}:dev", "--out", str(archive), "--json"))
        digest = written["image"].partition("@")[2]
        inv("kind.load", "--archive", str(archive), env=env)
        nodes = [each.node for each in found.nodes]
        for node in nodes:
            for name in (f"{OURS}@{digest}", GOOD, OTHER, SIGNED):
                node.run(["ctr", "--namespace", "k8s.io", "images", "tag", f"{OURS}:dev", name])
        worker = found.workers[0].node
        [control] = [each.node for each in found.nodes if each.role == "control-plane"]
        files = worker.run(["sh", "-c", FILES]).text
        site = Site(state, found.kubeconfig, control, worker, digest, files)
        until(lambda: worker.name in site.kubectl("get", "nodes", "--output=name"), "the worker does not join")
        site.kubectl("taint", "node", worker.name, "countersign/unenforced-")
        site.kubectl("taint", "node", worker.name, "countersign.dev/not-enforcing=true:NoExecute")
        site.kubectl("create", "namespace", NAMESPACE)
        yield site
    finally:
        inv("kind.delete", env=env)


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
    token = site.kubectl("--namespace", NAMESPACE, "create", "token", f"{NAME}-agent", *_bound(site))
    server = site.kubectl("config", "view", "--minify", "--output=jsonpath={.clusters[0].cluster.server}")
    path = f"{server}/apis/countersign.dev/v1alpha1/countersignnodes/{getattr(site, node).name}?dryRun=All"
    script = (  # the token by stdin: what is in argv others can read
        'read -r token; printf \'header = "Authorization: Bearer %s"\\n\' "$token" | '
        'curl --silent --config - --insecure --request PATCH --header "Content-Type: application/merge-patch+json" '
        '--data \'{"metadata":{"annotations":{"tried":"yes"}}}\' "$0"'
    )
    answer = json.loads(site.control.run(["bash", "-c", script, path], input=token.encode() + b"\n").text)
    if may:
        assert answer["metadata"]["annotations"]["tried"] == "yes"
    else:
        assert "the agent of another node may not change" in answer["message"]


def _bound(site: Site) -> list[str]:
    """Bind a token to the agent's pod on the worker, as the kubelet does."""
    selector = f"--selector=app.kubernetes.io/instance={NAME}"
    pods = site.get("pods", "--namespace", NAMESPACE, selector, f"--field-selector=spec.nodeName={site.worker.name}")
    metadata = pods["items"][0]["metadata"]
    return [
        "--bound-object-kind=Pod",
        f"--bound-object-name={metadata['name']}",
        f"--bound-object-uid={metadata['uid']}",
    ]


@pytest.mark.timeout(300)
def test_helm_uninstall_leaves_the_nodes_as_they_were(site: Site) -> None:
    done = site.helm("uninstall", NAME, "--wait", "--timeout", "120s")
    said = site.kubectl("--namespace", NAMESPACE, "logs", f"job/{NAME}-retire", check=False)
    assert done.returncode == 0, f"{done.stderr}\n{said}\n{site.nodes()}"
    assert {each["phase"] for each in site.nodes().values()} == {"Removed"}
    assert site.worker.run(["sh", "-c", FILES]).text == site.files
    assert site.pod("free", OTHER)["terminated"]["exitCode"] == 0
