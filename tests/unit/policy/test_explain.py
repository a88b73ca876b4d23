"""An explanation names the rule, why it holds, and what the digest alone decides."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from countersign.keys import pair as keys
from countersign.oci.reference import BadReference
from countersign.policy.explain import explain
from countersign.policy.model import Policy

Load = Callable[[str], Policy]

DIGEST, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
TEXT = f"""roots: {{team: {{publicKey: {{files: [team.pub, other.pub]}}}}}}
scopes:
  r.example: reject
  r.example/team: {{anyOf: [team]}}
pinned: [r.example/pause@{DIGEST}]
revoked: {{keys: [other.pub], digests: ["{OTHER}"]}}
"""


def test_the_longest_scope_with_its_line_and_keys(loaded: Load, tmp_path: Path) -> None:
    found = explain(loaded(TEXT), "r.example/team/app:v1")
    assert (found.reference, found.scope, str(found.rule)) == (
        "r.example/team/app:v1",
        "r.example/team",
        "anyOf: team",
    )
    path = tmp_path / "policy.yaml"
    assert [(one.scope, str(one.rule or ""), one.where, one.applies) for one in found.candidates] == [
        ("r.example/team/app", "", "", False),
        ("r.example/team", "anyOf: team", f"{path}:6", True),
        ("r.example", "reject", f"{path}:5", False),
    ]
    other = keys.load_public(tmp_path / "other.pub").fingerprint
    assert [(key.root, key.fingerprint == other, key.revoked) for key in found.keys] == [
        ("team", False, False),
        ("team", True, True),
    ]
    assert "longest scope" in found.because


def test_no_scope_is_the_default(loaded: Load) -> None:
    found = explain(loaded(TEXT), "busybox")
    assert (found.reference, found.scope, str(found.rule)) == ("docker.io/library/busybox:latest", "", "reject")
    assert "default" in found.because


@pytest.mark.parametrize("name", ["cafe", "sha256:cafe", "a" * 64, DIGEST])
def test_an_image_id_has_no_scope(loaded: Load, name: str) -> None:
    found = explain(loaded(TEXT + "\n"), name)
    assert (found.reference, found.candidates, str(found.rule)) == ("", [], "reject")
    assert "only a pin" in found.because
    assert found.pins == ([f"r.example/pause@{DIGEST}"] if "a" * 64 in name else [])


def test_pins_are_those_of_the_digest_or_else_of_the_repository(loaded: Load) -> None:
    policy = loaded(TEXT)
    pin = f"r.example/pause@{DIGEST}"
    assert explain(policy, f"elsewhere.example/x@{DIGEST}").pins == [pin]
    assert explain(policy, "r.example/pause:3").pins == [pin]
    assert explain(policy, f"r.example/pause@{OTHER}").pins == []
    assert explain(policy, "r.example/pause2:3").pins == []


def test_a_revoked_digest_is_named(loaded: Load) -> None:
    assert explain(loaded(TEXT), f"r.example/team/app@{OTHER}").revoked
    assert not explain(loaded(TEXT), f"r.example/team/app@{DIGEST}").revoked
    assert not explain(loaded(TEXT), "r.example/team/app:v1").revoked


def test_what_is_no_name(loaded: Load) -> None:
    with pytest.raises(BadReference):
        explain(loaded(TEXT), "R.example/App")
