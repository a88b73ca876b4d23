"""Set-up's objects for Gatekeeper: the API server takes them, and what is there is known again."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from admission import foreign, gatekeeper, steps
from admission import gatekeeper_manifests as manifests
from admission.gatekeeper import rendered
from admission.kube import Kube
from admission.manifests import ANNOTATION, Document, release
from countersign.console.config import Settings
from countersign.console.errors import UsageError
from countersign.keys import tls
from countersign.nodes.node import CommandError, Result
from countersign.policy.gatekeeper import NAMESPACE
from countersign.tools.recipes import lookup
from countersign.tools.resolver import tool
from tests.gatekeeper.cluster import Cluster
from tests.gatekeeper.conftest import Place


@dataclass(frozen=True)
class Here:
    """A node whose kubectl is ours."""

    cluster: Cluster
    name: str = "here"

    def run(self, argv: Sequence[str], *, input: bytes = b"", timeout: float = 60, check: bool = True) -> Result:  # noqa: A002
        words = [str(self.cluster.kubectl), f"--kubeconfig={self.cluster.kubeconfig}", *argv[2:]]
        done = subprocess.run(words, input=input, capture_output=True, timeout=timeout, check=False)
        result = Result(tuple(words), done.returncode, done.stdout, done.stderr, 0.0)
        if check and done.returncode:
            raise CommandError(result, self.name)
        return result


@pytest.fixture(scope="module")
def kube(place: Place) -> Kube:
    return Kube(cast(Any, Here(place.cluster)), place.cluster.kubeconfig)


@pytest.fixture(scope="module")
def controller(settings: Settings) -> Document:
    module = f"{manifests.MODULE}@v{lookup('gatekeeper')[0].version}"
    return manifests.adapt(release(settings, module, manifests.RELEASE), "r.example/gatekeeper:1")[-1]


@pytest.fixture(scope="module")
def objects(place: Place) -> list[Document]:
    return policy_of(place.folder / "policy.yaml", tls.make([f"{manifests.PROVIDER}.{NAMESPACE}.svc"]))


def policy_of(policy: Path, identity: tls.ServerIdentity) -> list[Document]:
    documents = rendered(policy)
    digest = documents[-1]["metadata"]["annotations"]["countersign/policy"]
    serving = manifests.serving("r.example/gate:1", identity, "CA", '{"auths": {}}', digest)
    return [*serving, manifests.provider(manifests.URL, identity.ca), *documents]


@pytest.fixture(scope="module")
def applied(place: Place, kube: Kube, controller: Document, objects: list[Document]) -> None:
    """All is there, and runs as far as the API server knows: nobody makes pods here."""
    with place.gatekeeper():  # or the constraint's kind is not known
        metadata = {**controller["metadata"], "annotations": {ANNOTATION: "of the tests"}}
        kube.apply([{**controller, "metadata": metadata}, *objects])
    status = {"replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1, "observedGeneration": 1}
    patch = json.dumps({"status": status})
    where = ("--namespace", NAMESPACE, "--subresource=status", "--type=merge", "--patch", patch)
    place.cluster.run("patch", "deployment", manifests.PROVIDER, *where)


@pytest.mark.usefixtures("applied")
def test_what_is_in_force_is_not_done_again(kube: Kube, objects: list[Document]) -> None:
    assert not gatekeeper.Asking(kube, objects).needed()


@pytest.mark.usefixtures("applied")
@pytest.mark.parametrize("kind", ["Provider", "CountersignImages", "ConstraintTemplate", "ConfigMap", "Deployment"])
def test_what_was_changed_is_put_back(kube: Kube, objects: list[Document], kind: str) -> None:
    changes: dict[str, Document] = {
        "Provider": {"spec": {"url": "https://elsewhere/validate"}},
        "CountersignImages": {"spec": {"enforcementAction": "dryrun"}},
        "ConstraintTemplate": {"spec": {"targets": []}},
        "ConfigMap": {"data": {"policy.json": "{}"}},
        "Deployment": {"spec": {"replicas": 2}},
    }
    wanted = [{**each, **changes[kind]} if each["kind"] == kind else each for each in objects]
    assert gatekeeper.Asking(kube, wanted).needed()


@pytest.mark.usefixtures("applied")
def test_a_gatekeeper_of_ours_is_known_and_another_left_alone(place: Place, kube: Kube, controller: Document) -> None:
    found = steps.Installed(kube, [controller], "1", NAMESPACE, manifests.CONTROLLER, "Gatekeeper")
    assert found.needed(), "it was applied otherwise"
    assert gatekeeper.Removed(kube, list).needed()
    where = ("deployment", manifests.CONTROLLER, "--namespace", NAMESPACE)
    place.cluster.run("annotate", *where, f"{ANNOTATION}-")
    for step in (found, gatekeeper.Removed(kube, list)):
        with pytest.raises(UsageError, match="a Gatekeeper that set-up did not install"):
            step.needed()


def test_the_provider_is_started_as_it_can_be(settings: Settings, objects: list[Document]) -> None:
    (deployment,) = (each for each in objects if each["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    words = [each.replace("=/state", "=/dev/null/state") for each in container["args"]]
    done = subprocess.run(
        [str(tool("countersign-gate", settings)), *words], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, "mkdir /dev/null" in done.stderr) == (4, True), done.stderr


def test_what_gatekeeper_ships_is_open_and_what_is_applied_of_it_is_not(settings: Settings) -> None:
    module = f"{manifests.MODULE}@v{lookup('gatekeeper')[0].version}"
    shipped = release(settings, module, manifests.RELEASE)

    def findings(documents: Sequence[Document]) -> set[str]:
        webhooks = [one for one in documents if one["kind"] == manifests.VALIDATING]
        programs = [one for one in documents if one["kind"] == "Deployment"]
        assert foreign.namespace_of(webhooks) == NAMESPACE
        return {setting.partition(" ")[0] for setting, _ in foreign.findings(webhooks, programs, None, NAMESPACE)}

    open_ones = {"failurePolicy", "namespaceSelector", "--external-data-provider-response-cache-ttl"}
    assert findings(shipped) == open_ones
    assert findings(manifests.adapt(shipped, "r.example/gatekeeper:1")) == set()
