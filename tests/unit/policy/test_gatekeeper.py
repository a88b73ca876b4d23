"""What Gatekeeper is given: the very policy of the nodes, and a constraint that asks about every pod."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import yaml

from countersign.policy import gate, gatekeeper
from countersign.policy.model import Policy

Load = Callable[[str], Policy]
TEXT = """roots: {team: {publicKey: {files: [team.pub]}}}
scopes: {r.example: {anyOf: [team]}, r.example/a: reject}
"""


def documents(policy: Policy) -> dict[str, dict[str, Any]]:
    return {each["kind"]: each for each in yaml.safe_load_all(gatekeeper.render(policy))}


def test_the_provider_decides_by_what_nodes_decide_by(loaded: Load) -> None:
    policy = loaded(TEXT)
    found = documents(policy)
    assert found["ConfigMap"]["data"] == {"policy.json": gate.render(policy).decode()}
    digest = hashlib.sha256(gate.render(policy)).hexdigest()
    assert found["CountersignImages"]["metadata"]["annotations"]["countersign/policy"] == f"sha256:{digest}"


def test_the_constraint_denies_and_leaves_no_pod_out(loaded: Load) -> None:
    spec = documents(loaded(TEXT))["CountersignImages"]["spec"]
    assert spec == {"enforcementAction": "deny", "match": {"kinds": [{"apiGroups": [""], "kinds": ["Pod"]}]}}


def test_the_template_has_the_rule_as_it_stands(loaded: Load) -> None:
    (target,) = documents(loaded(TEXT))["ConstraintTemplate"]["spec"]["targets"]
    (code,) = target["code"]
    assert code["source"]["rego"] == (gatekeeper.HERE / "gatekeeper.rego").read_text(encoding="utf-8")


def test_equal_policies_are_equal_bytes(loaded: Load) -> None:
    assert gatekeeper.render(loaded(TEXT)) == gatekeeper.render(loaded(TEXT))
