"""The chart that brings gate and hook to a cluster: what it grants, what it mounts, and which values it refuses."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from countersign.console.config import ROOT
from countersign.console.sources import load_settings
from countersign.tools.resolver import tool

DIGEST = "sha256:" + "0" * 64
KEY = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"
GOOD = {"image.repository": "registry.example/gate", "image.digest": DIGEST, "policy.content": "policy"}


def _template(**changed: str) -> subprocess.CompletedProcess[str]:
    values = {**GOOD, **{name.replace("__", "."): value for name, value in changed.items()}}
    flags = {"false": "--set"}  # a value that is no text
    words = [word for name, value in values.items() for word in (flags.get(value, "--set-string"), f"{name}={value}")]
    helm = str(tool("helm", load_settings()))
    argv = [helm, "template", "countersign", str(ROOT / "rollout" / "chart"), "--namespace", "ns", *words]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def _rendered(**changed: str) -> dict[tuple[str, str], Any]:
    """Return all that the chart makes, by kind and name."""
    done = _template(**changed)
    assert done.returncode == 0, done.stderr
    return {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(done.stdout) if each}


def _pod(**changed: str) -> Any:
    return _rendered(**changed)["DaemonSet", "countersign"]["spec"]["template"]["spec"]


def test_the_values_of_these_tests_are_good() -> None:
    assert _template().returncode == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("image.digest", "v1", id="a tag"),
        pytest.param("image.digest", "", id="no digest"),
        pytest.param("image.repository", "", id="no repository"),
        pytest.param("image.repository", "registry.example/gate\n", id="a second line"),
        pytest.param("policy.keys[0]", "-----BEGIN PRIVATE KEY-----", id="a private key"),
        pytest.param("taintEffect", "PreferNoSchedule", id="an effect that keeps nothing away"),
        pytest.param("containerd.socket", "run/containerd.sock", id="a relative socket"),
        pytest.param("crio.socket", "crio.sock", id="a relative socket of CRI-O"),
        pytest.param("crio.engine", "off", id="an engine that is neither"),
        pytest.param("runtime", "cri-o", id="a runtime by another name"),
        pytest.param("every", "30", id="a time without a unit"),
        pytest.param("policy.key", KEY, id="a misspelt value"),
        pytest.param("acceptRefusal", "true", id="a misspelt switch"),
        pytest.param("image.tag", "v1", id="a tag beside the digest"),
    ],
)
def test_a_value_that_is_none_is_refused(name: str, value: str) -> None:
    done = _template(**{name.replace(".", "__"): value})
    assert done.returncode != 0
    assert name.split("[", maxsplit=1)[0].rsplit(".", maxsplit=1)[-1] in done.stderr.replace("/", "."), done.stderr


def test_there_is_no_chart_without_a_policy() -> None:
    done = _template(policy__content="")
    assert done.returncode != 0
    assert "policy.content is empty" in done.stderr
    assert _template(policy__content="", policy__existingConfigMap="ours").returncode == 0


def test_images_are_named_by_digest_alone() -> None:
    pod = _pod()
    images = {each["image"] for each in pod["containers"]}
    assert images == {f"registry.example/gate@{DIGEST}"}


def test_the_nodes_ask_for_signatures_where_there_are_keys() -> None:
    (agent,) = _pod(policy__keys="{" + KEY + "}")["containers"]
    assert "--policy-key=/policy-keys/key-0.pem" in agent["args"]
    assert {"name": "policy-keys", "mountPath": "/policy-keys", "readOnly": True} in agent["volumeMounts"]
    assert not [word for word in _pod()["containers"][0]["args"] if "policy-key" in word]


def test_each_node_takes_the_runtime_that_answers_unless_one_is_named() -> None:
    given = _pod()["containers"][0]["args"]
    assert not [word for word in given if word.startswith("--runtime")]
    assert {"--crio-socket=/var/run/crio/crio.sock", "--crio-engine=strict"} <= set(given)
    (agent,) = _pod(runtime="crio", crio__engine="lenient")["containers"]
    assert {"--runtime=crio", "--crio-engine=lenient"} <= set(agent["args"])


def test_logins_are_read_by_nobody_else() -> None:
    volumes = {each["name"]: each for each in _pod(registry__secret="ours")["volumes"]}
    assert volumes["logins"]["secret"] == {"secretName": "ours", "defaultMode": 0o400}


def test_refusals_stop_an_install_unless_they_are_accepted() -> None:
    assert "--accept-refusals" not in _pod()["containers"][0]["args"]


def test_the_agent_may_do_this_and_no_more() -> None:
    made = _rendered()
    assert made["ClusterRole", "countersign-agent"]["rules"] == [
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "patch"]},
        {
            "apiGroups": ["countersign.dev"],
            "resources": ["countersignnodes", "countersignnodes/status"],
            "verbs": ["get", "list", "watch", "create", "patch"],
        },
        {"apiGroups": [""], "resources": ["events"], "verbs": ["create"]},
    ]
    assert made["Role", "countersign-events"]["rules"] == made["ClusterRole", "countersign-agent"]["rules"][-1:]
    (policy,) = made["Role", "countersign-agent"]["rules"]
    assert policy["resourceNames"] == ["countersign-policy"]
    assert policy["resources"] == ["configmaps"]
    assert policy["verbs"] == ["get", "list", "watch"]
    assert made["ClusterRole", "countersign-retire"]["rules"] == [
        {"apiGroups": ["countersign.dev"], "resources": ["countersignnodes"], "verbs": ["list", "patch"]}
    ]


def test_an_agent_speaks_for_its_own_node_alone() -> None:
    made = _rendered()
    guard = made["ValidatingAdmissionPolicy", "countersign-own-node"]["spec"]
    assert guard["failurePolicy"] == "Fail"
    (condition,) = guard["matchConditions"]
    assert condition["expression"] == 'request.userInfo.username == "system:serviceaccount:ns:countersign-agent"'
    assert [(r["resources"], r["operations"]) for r in guard["matchConstraints"]["resourceRules"]] == [
        (["nodes"], ["UPDATE"]),
        (["countersignnodes", "countersignnodes/status"], ["CREATE", "UPDATE"]),
    ]
    (rule,) = guard["validations"]
    assert rule["expression"] == (
        '"authentication.kubernetes.io/node-name" in request.userInfo.extra'
        ' && request.userInfo.extra["authentication.kubernetes.io/node-name"][0] == request.name'
    )
    binding = made["ValidatingAdmissionPolicyBinding", "countersign-own-node"]["spec"]
    assert binding == {"policyName": "countersign-own-node", "validationActions": ["Deny"]}


def test_an_agent_tells_of_its_own_node_alone_and_pods_only_that_they_were_refused() -> None:
    made = _rendered()
    guard = made["ValidatingAdmissionPolicy", "countersign-own-events"]["spec"]
    assert guard["failurePolicy"] == "Fail"
    (resource,) = guard["matchConstraints"]["resourceRules"]
    assert (resource["resources"], resource["operations"]) == (["events"], ["CREATE"])
    own, about = (each["expression"] for each in guard["validations"])
    node = 'request.userInfo.extra["authentication.kubernetes.io/node-name"][0]'
    assert f"object.source.host == {node}" in own
    assert 'object.involvedObject.kind == "Pod" ? object.reason == "ImageRefused"' in about
    binding = made["ValidatingAdmissionPolicyBinding", "countersign-own-events"]["spec"]
    assert binding == {"policyName": "countersign-own-events", "validationActions": ["Deny"]}


def test_by_value_no_pod_is_told_and_no_other_namespace_is_written_to() -> None:
    made = _rendered(podEvents="false")
    assert "events" not in str(made["ClusterRole", "countersign-agent"]["rules"])
    assert "--pod-events" not in made["DaemonSet", "countersign"]["spec"]["template"]["spec"]["containers"][0]["args"]
    assert "--pod-events" in _pod()["containers"][0]["args"]


def test_what_needs_no_node_has_no_rights() -> None:
    (retire,) = _rendered()["Job", "countersign-retire"]["spec"]["template"]["spec"]["containers"]
    assert retire["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


@pytest.mark.parametrize(("size", "refused"), [(1 << 20, False), ((1 << 20) + 1, True)])
def test_a_policy_that_no_config_map_takes_is_refused(tmp_path: Path, size: int, refused: bool) -> None:
    (tmp_path / "policy.json").write_text("x" * size)
    helm = str(tool("helm", load_settings()))
    values = [
        word for name in ("image.repository", "image.digest") for word in ("--set-string", f"{name}={GOOD[name]}")
    ]
    argv = [helm, "template", "c", str(ROOT / "rollout" / "chart"), *values]
    argv += ["--set-file", f"policy.content={tmp_path}/policy.json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode != 0) == refused, done.stderr
    assert ("a ConfigMap takes 1048576" in done.stderr) == refused
