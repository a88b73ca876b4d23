"""A Gatekeeper that is not ours: each setting that lets pods through is named, and nothing else."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from admission import foreign
from admission.engines import report, require_up
from admission.gatekeeper import Gatekeeper, rendered
from admission.gatekeeper_manifests import CONTROLLER, SHIPPED, VALIDATING
from admission.manifests import ANNOTATION
from countersign.console.config import Settings
from countersign.console.errors import InfrastructureError

NS = "gatekeeper"
PODS = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["pods"]}
BY_NAME = {"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": [NS]}]}
ARGUMENTS = ["--operation=webhook", "--operation=generate", "--external-data-provider-response-cache-ttl=0"]
Change = Callable[[dict[str, Any]], object]


def world() -> dict[str, Any]:
    """Return a Gatekeeper that fails closed."""
    service = {"service": {"namespace": NS, "name": "gatekeeper-webhook-service"}}
    hook = {"name": SHIPPED, "clientConfig": service, "failurePolicy": "Fail", "rules": [PODS]}
    hook |= {"namespaceSelector": copy.deepcopy(BY_NAME)}
    container = {"image": "r.example/gatekeeper:v3", "args": [*ARGUMENTS, f"--exempt-namespace={NS}"]}
    return {
        "hook": hook,
        "program": container,
        "spec": {"replicas": 1, "template": {"spec": {"containers": [container]}}},
        "config": {"spec": {"match": [{"excludedNamespaces": [NS], "processes": ["*"]}]}},
    }


def named(change: Change = lambda _: None) -> list[str]:
    at = world()
    change(at)
    configurations = [{"webhooks": [at["hook"], *at.get("hooks", ())]}]
    found = foreign.findings(configurations, [{"spec": at["spec"]}], at["config"], NS)
    assert all(said for _, said in found)
    return [setting for setting, _ in found]


def arguments(*words: str, without: str = "\0") -> Change:
    def changed(at: dict[str, Any]) -> None:
        at["program"]["args"] = [one for one in at["program"]["args"] if without not in one] + list(words)

    return changed


def test_one_that_fails_closed_has_no_findings() -> None:
    assert named() == []
    assert foreign.namespace_of([{"webhooks": [world()["hook"]]}]) == NS
    assert foreign.namespace_of([{"webhooks": None}, {}]) == ""


TTL = "external-data-provider-response-cache-ttl"


@pytest.mark.parametrize(
    ("change", "setting"),
    [
        (lambda at: at["hook"].update(failurePolicy="Ignore"), f"failurePolicy of webhook {SHIPPED}"),
        (lambda at: at["hook"].update(objectSelector={"matchLabels": {"a": "b"}}), "objectSelector"),
        (lambda at: at["hook"].update(matchConditions=[{"name": "x", "expression": "true"}]), "matchConditions"),
        (
            lambda at: at["hook"]["namespaceSelector"]["matchExpressions"].append(
                {"key": "admission.gatekeeper.sh/ignore", "operator": "DoesNotExist"}
            ),
            "namespaceSelector",
        ),
        (lambda at: at["hook"].update(rules=[{**PODS, "operations": ["CREATE"]}]), "rules"),
        (lambda at: at["hook"].update(rules=[{**PODS, "resources": ["services"]}]), "its webhooks"),
        (lambda at: at["hook"].update(rules=None), "its webhooks"),
        (arguments(without="webhook"), "--operation=webhook"),
        (arguments(without="generate"), "--operation=generate"),
        (arguments(without=TTL), f"--{TTL}"),
        (arguments(f"-{TTL}", "1m", without=TTL), f"--{TTL}"),
        (arguments("--enable-external-data=false"), "--enable-external-data"),
        (arguments("--exempt-namespace", "shop"), "--exempt-namespace"),
        (arguments("--exempt-namespace-prefix=kube-"), "--exempt-namespace"),
        (lambda at: at["config"]["spec"]["match"][0]["excludedNamespaces"].append("shop"), f"Config {NS}/config"),
    ],
)
def test_each_setting_that_lets_pods_through_is_named(change: Change, setting: str) -> None:
    (found,) = named(change)
    assert found.startswith(setting)


@pytest.mark.parametrize(
    "change",
    [
        lambda at: at["hook"].update(rules=[{**PODS, "apiGroups": ["*"], "resources": ["*"], "operations": ["*"]}]),
        arguments(f"--{TTL}", "0s", without=TTL),
        arguments(without="operation"),  # all of them
        lambda at: at.update(config=None),
        lambda at: at["config"]["spec"]["match"].append({"excludedNamespaces": ["shop"], "processes": ["audit"]}),
        lambda at: at.update(hooks=[{**at["hook"], "name": "second", "failurePolicy": "Ignore"}]),  # one is enough
    ],
)
def test_what_closes_as_well_is_not_named(change: Change) -> None:
    assert named(change) == []


def test_a_deployment_that_was_scaled_to_nothing_answers_nobody() -> None:
    assert named(lambda at: at["spec"].update(replicas=0)) == ["--operation=webhook", "--operation=generate"]


@pytest.mark.parametrize(
    ("constraint", "said"),
    [(None, "missing"), ({"spec": {"enforcementAction": "dryrun"}}, "dryrun"), ({"spec": {}}, "")],
)
def test_a_constraint_that_only_tells_is_named(constraint: dict[str, Any] | None, said: str) -> None:
    found = [what for _, what in foreign.of_constraint(constraint)]
    assert (found[0].startswith(said) if said else not found) is True


class FakeKube:
    """A cluster in which somebody else has installed Gatekeeper."""

    def __init__(self, at: dict[str, Any], objects: dict[str, Any]) -> None:
        self._lists = {VALIDATING: [{"webhooks": [at["hook"]]}], "deployment": [{"spec": at["spec"]}]}
        self._objects = {"config": at["config"], **objects}

    def every(self, kind: str, namespace: str = "") -> list[Any]:
        assert namespace in {"", NS}
        return self._lists[kind]

    def get(self, _kind: str, name: str, namespace: str = "") -> Any:
        return self._objects.get(name)


def shown(tmp_path: Path, change: Change, objects: dict[str, Any] | None = None) -> Gatekeeper:
    policy = tmp_path / "policy.yaml"
    policy.write_text("apiVersion: countersign/v1\ndefault: reject\nscopes: {r.example/app: reject}\n")
    at = world()
    change(at)
    constraint = rendered(policy)[-1]
    found = Gatekeeper(replace(Settings(), policy=policy))
    found.__dict__["kube"] = FakeKube(at, {constraint["metadata"]["name"]: constraint, **(objects or {})})
    return found


def test_its_status_names_what_is_open_and_who_sets_it(tmp_path: Path) -> None:
    good = shown(tmp_path, lambda _: None)
    require_up(good)
    assert report(good)["parts"][0]["state"] == f"in {NS}, not installed by set-up"
    bad = shown(tmp_path, lambda at: at["hook"].update(failurePolicy="Ignore"))
    assert [part["name"] for part in report(bad)["parts"] if not part["ok"]] == [f"failurePolicy of webhook {SHIPPED}"]
    with pytest.raises(InfrastructureError, match=r"policy\.render --engine gatekeeper"):
        require_up(bad)


def test_one_of_ours_beside_its_webhook_is_not_foreign(tmp_path: Path) -> None:
    ours = {CONTROLLER: {"metadata": {"annotations": {ANNOTATION: "x"}}}}
    assert shown(tmp_path, lambda _: None, ours).mended_by() == "run ./inv admission.setup --engine gatekeeper"
