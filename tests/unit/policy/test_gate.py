"""What the gate is given: self-contained, canonical, and nothing weaker than the policy says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from countersign.console.errors import UsageError
from countersign.keys import pair as keys
from countersign.policy import canary
from countersign.policy.gate import render
from countersign.policy.model import Policy

Load = Callable[[str], Policy]

DIGEST, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
TEXT = f"""roots: {{team: {{publicKey: {{files: [team.pub]}}}}, both: {{publicKey: {{files: [team.pub, other.pub]}}}}}}
scopes:
  r.example/b: {{allOf: [team, both]}}
  r.example/a: {{anyOf: [team]}}
  busybox: accept
  gcr.io: reject
pinned: [pause@{DIGEST}]
revoked: {{keys: [other.pub], digests: ["{OTHER}"]}}
"""


def test_the_whole_document(loaded: Load, tmp_path: Path) -> None:
    rendered = json.loads(render(loaded(TEXT)))
    team, other = (keys.load_public(tmp_path / f"{name}.pub") for name in ("team", "other"))
    assert rendered == {
        "version": "countersign.policy/v1",
        "roots": {
            "team": {"publicKey": {"keys": [team.pem]}},
            "both": {"publicKey": {"keys": [team.pem, other.pem]}},
            canary.ROOT: {"publicKey": {"keys": [canary.KEY]}},
        },
        "scopes": {
            "r.example/a": {"anyOf": ["team"]},
            "r.example/b": {"allOf": ["team", "both"]},
            "docker.io/library/busybox": {"accept": True},
            "gcr.io": {"reject": True},
            canary.REGISTRY: {"anyOf": [canary.ROOT]},
        },
        "pinned": [f"docker.io/library/pause@{DIGEST}"],
        "revoked": {"keys": [other.fingerprint], "certificates": [], "digests": [OTHER]},
    }


def test_equal_policies_are_equal_bytes(loaded: Load) -> None:
    first = render(loaded(TEXT))
    lines = TEXT.splitlines(keepends=True)
    shuffled = "".join([*lines[6:], lines[0], lines[1], *reversed(lines[2:6])])
    assert render(loaded(shuffled)) == first
    assert first.endswith(b"}\n")
    assert first.decode() == json.dumps(json.loads(first), indent=2, sort_keys=True) + "\n"


def test_extra_pins_come_beside_the_policys(loaded: Load) -> None:
    document = json.loads(render(loaded(TEXT), [f"r.example/pause:3@{OTHER}", f"docker.io/library/pause@{DIGEST}"]))
    assert document["pinned"] == [f"docker.io/library/pause@{DIGEST}", f"r.example/pause@{OTHER}"]


def test_an_extra_pin_without_digest_is_refused(loaded: Load) -> None:
    with pytest.raises(UsageError, match="has no digest"):
        render(loaded(TEXT), ["r.example/pause:3"])


def test_the_least_policy_is_complete(loaded: Load) -> None:
    assert json.loads(render(loaded(""))) == {
        "version": "countersign.policy/v1",
        "roots": {canary.ROOT: {"publicKey": {"keys": [canary.KEY]}}},
        "scopes": {canary.REGISTRY: {"anyOf": [canary.ROOT]}},
        "pinned": [],
        "revoked": {"keys": [], "certificates": [], "digests": []},
    }
