"""What is applied: Kyverno's own objects, with our changes and nothing else changed."""

from __future__ import annotations

from typing import Any

import pytest

from admission import manifests
from countersign.tools.recipes import lookup

CONTAINER = {
    "name": "kyverno",
    "image": "reg.kyverno.io/kyverno/kyverno:latest",
    "args": ["--servicePort=443", "--admissionReports=true"],
    "env": [{"name": "KYVERNO_SVC", "value": "kyverno-svc"}],
    "volumeMounts": [{"name": "sigstore", "mountPath": "/.sigstore"}],
    "securityContext": {"runAsNonRoot": True},
}


def deployment(name: str) -> dict[str, Any]:
    pod = {"containers": [CONTAINER], "initContainers": [{"name": "pre"}], "volumes": [{"name": "sigstore"}]}
    return {"kind": "Deployment", "metadata": {"name": name}, "spec": {"replicas": None, "template": {"spec": pod}}}


@pytest.fixture
def adapted() -> list[dict[str, Any]]:
    release = [
        {"kind": "Namespace", "metadata": {"name": "kyverno"}},
        deployment(manifests.CONTROLLER),
        deployment("kyverno-background-controller"),
    ]
    return manifests.adapt(release, "r.example/kyverno:1", "CA\n", '{"auths": {}}')


def test_the_controller_comes_last_and_no_other_one_comes(adapted: list[dict[str, Any]]) -> None:
    assert [(each["kind"], each["metadata"]["name"]) for each in adapted] == [
        ("Namespace", "kyverno"),
        ("ConfigMap", "countersign-registries-ca"),
        ("Secret", "countersign-registries"),
        ("Deployment", manifests.CONTROLLER),
    ]


def test_the_controller_is_kyvernos_with_our_image_and_flags(adapted: list[dict[str, Any]]) -> None:
    spec = adapted[-1]["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    assert spec["replicas"] == 1
    assert "initContainers" not in spec["template"]["spec"]
    assert container["image"] == "r.example/kyverno:1"
    assert container["securityContext"] == CONTAINER["securityContext"]
    assert container["args"][0] == "--servicePort=443"
    assert [each for each in container["args"] if each.startswith("--admissionReports")] == ["--admissionReports=false"]
    assert "--imageVerifyCacheEnabled=false" in container["args"]
    assert not [each for each in container["args"] if each.startswith("--allowInsecureRegistry=true")]


def test_the_registries_ca_is_mounted_where_go_looks_for_it(adapted: list[dict[str, Any]]) -> None:
    pod = adapted[-1]["spec"]["template"]["spec"]
    mount = pod["containers"][0]["volumeMounts"][-1]
    assert {"name": "SSL_CERT_DIR", "value": mount["mountPath"]} in pod["containers"][0]["env"]
    assert {"name": mount["name"], "configMap": {"name": adapted[1]["metadata"]["name"]}} in pod["volumes"]
    assert adapted[1]["data"] == {"ca.crt": "CA\n"}
    assert adapted[2]["stringData"] == {".dockerconfigjson": '{"auths": {}}'}


def test_the_versions_are_those_of_the_go_module() -> None:
    module = (manifests.HERE / "kyverno" / "go.mod").read_text()
    recipe = lookup("kyverno")[0]
    assert f"require {manifests.MODULE} v{recipe.version}\n" in module
    assert recipe.variables == (f"{manifests.MODULE}/pkg/version.BuildVersion=v{recipe.version}",)
    assert recipe.packages == (f"{manifests.MODULE}/cmd/kyverno",)
