"""A policy says since when a key is in use; nodes are told, and nothing else is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from countersign.console.config import ROOT
from countersign.keys import pair as keys
from countersign.policy import gate
from countersign.policy.load import load
from countersign.policy.problems import PolicyInvalid

KEY = keys.generate()


def policy(folder: Path, since: str) -> Path:
    (folder / "a.pub").write_text(KEY.public.pem)
    root = f"{{publicKey: {{files: [a.pub]{since}}}}}"
    (folder / "policy.yaml").write_text(f"apiVersion: countersign/v1\nroots: {{a: {root}}}\nscopes: {{}}\n")
    return folder / "policy.yaml"


@pytest.mark.parametrize("day", ["2026-11-01", "'2026-11-01'"])
def test_the_gate_is_told_by_fingerprint(tmp_path: Path, day: str) -> None:
    rendered = json.loads(gate.render(load(policy(tmp_path, f", since: {{a.pub: {day}}}"))))
    wanted = {"keys": [KEY.public.pem], "since": {KEY.public.fingerprint: "2026-11-01"}}
    assert rendered["roots"]["a"]["publicKey"] == wanted
    without = json.loads(gate.render(load(policy(tmp_path, ""))))
    assert without["roots"]["a"]["publicKey"] == {"keys": [KEY.public.pem]}


def test_an_api_server_keeps_it(tmp_path: Path) -> None:
    """What the CRD does not name is cut off, and the policy's signature no longer holds."""
    crd = yaml.safe_load((ROOT / "rollout/chart/crds/countersignpolicies.yaml").read_text())
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    known = spec["roots"]["additionalProperties"]["properties"]["publicKey"]["properties"]
    rendered = json.loads(gate.render(load(policy(tmp_path, ", since: {a.pub: 2026-11-01}"))))
    written = rendered["roots"]["a"]["publicKey"]
    assert written.keys() <= known.keys()
    assert known["since"]["additionalProperties"]["type"] == "string"


@pytest.mark.parametrize(
    ("since", "says"),
    [
        ("{b.pub: 2026-11-01}", "'b.pub' is not among the root's files; expected one of a.pub"),
        ("{a.pub: 9999-01-01}", "got '9999-01-01'; expected the day since which the key is in use: 2026-11-01"),
        ("{a.pub: yesterday}", "got 'yesterday'; expected the day"),
        ("{a.pub: 2026-11-01T10:00:00Z}", "expected the day"),
        ("{a.pub: 2026}", "expected the day"),
        ("2026-11-01", "expected a mapping"),
    ],
)
def test_what_users_mistype(tmp_path: Path, since: str, says: str) -> None:
    with pytest.raises(PolicyInvalid) as caught:
        load(policy(tmp_path, f", since: {since}"))
    assert says in str(caught.value)
    assert "policy.yaml:2" in str(caught.value)
