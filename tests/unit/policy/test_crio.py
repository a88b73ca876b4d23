"""CRI-O's files: what the policy refuses is refused, and every key file that is named is there."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from countersign.oci.reference import BadReference
from countersign.policy import canary, crio
from countersign.policy.model import Policy

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Load = Callable[[str], Policy]

KEYS = "/keys"
DIGEST, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
ROOTS = "{team: {publicKey: {files: [team.pub]}}, both: {publicKey: {files: [team.pub, other.pub]}}}"
TEXT = f"""roots: {ROOTS}
scopes:
  r.example: {{allOf: [team, both]}}
  r.example/a: {{anyOf: [team, both]}}
  r.example/a/b: reject
  r.example/a/b/c: accept
  busybox: {{anyOf: [team]}}
pinned: [pause@{DIGEST}]
revoked: {{digests: ["{OTHER}"]}}
"""
ACCEPT, REJECT = [{"type": "insecureAcceptAnything"}], [{"type": "reject"}]
IDENTITY = {"type": "matchRepository"}


def document(policy: Policy, **more: Any) -> dict[str, Any]:
    return dict(json.loads(crio.policy_json(policy, KEYS, **more)))


def docker(policy: Policy, **more: Any) -> dict[str, Any]:
    return dict(document(policy, **more)["transports"]["docker"])


def without(policy: Policy, *roots: str) -> Policy:
    """Revoke the first key of each of these roots."""
    return replace(policy, revoked_keys=tuple(policy.roots[root].keys[0].fingerprint for root in roots))


def paths(requirement: dict[str, Any]) -> list[str]:
    return [requirement["keyPath"]] if "keyPath" in requirement else list(requirement["keyPaths"])


def pems(policy: Policy, requirement: dict[str, Any]) -> set[bytes]:
    files = crio.key_files(policy, KEYS)
    return {files[path] for path in paths(requirement)}


@pytest.mark.parametrize("text", ["", TEXT])
def test_what_has_no_scope_and_every_other_transport_is_refused(loaded: Load, text: str) -> None:
    found = document(loaded(text))
    assert found["default"] == REJECT
    assert list(found["transports"]) == ["docker"]


def test_scopes_are_repositories_as_the_engine_spells_them(loaded: Load) -> None:
    assert set(docker(loaded(TEXT))) == {
        "r.example",
        "r.example/a",
        "r.example/a/b",
        "r.example/a/b/c",
        "docker.io/library/busybox",
        f"docker.io/library/pause@{DIGEST}",
        canary.REGISTRY,
        canary.REPOSITORY,
    }


def test_accept_reject_and_pins_are_what_they_say(loaded: Load) -> None:
    found = docker(loaded(TEXT))
    assert found["r.example/a/b"] == REJECT
    assert found["r.example/a/b/c"] == found[f"docker.io/library/pause@{DIGEST}"] == ACCEPT


def test_all_of_is_a_requirement_a_root_and_any_of_is_one_with_all_keys(loaded: Load) -> None:
    policy = loaded(TEXT)
    team, other = (key.pem.encode() for key in policy.roots["both"].keys)
    assert [pems(policy, each) for each in docker(policy)["r.example"]] == [{team}, {team, other}]
    (any_of,) = docker(policy)["r.example/a"]
    assert pems(policy, any_of) == {team, other}
    (one,) = docker(policy)["docker.io/library/busybox"]
    assert (pems(policy, one), one["type"], one["signedIdentity"]) == ({team}, "sigstoreSigned", IDENTITY)
    assert "keyPaths" not in one


def test_a_revoked_key_is_in_no_file_and_no_requirement(loaded: Load) -> None:
    policy = without(loaded(TEXT), "team")
    revoked = policy.roots["team"].keys[0].pem.encode()
    assert revoked not in crio.key_files(policy, KEYS).values()
    assert revoked in crio.key_files(loaded(TEXT), KEYS).values()
    rules = [rule for each in docker(policy).values() for rule in each if "signedIdentity" in rule]
    named = [path for rule in rules for path in paths(rule)]
    assert named
    assert set(named) <= set(crio.key_files(policy, KEYS))


def test_a_scope_without_a_key_left_is_rejected_and_never_loses_a_requirement(loaded: Load) -> None:
    found = docker(without(loaded(TEXT), "team"))
    assert found["docker.io/library/busybox"] == found["r.example"] == REJECT
    (any_of,) = found["r.example/a"]
    assert len(paths(any_of)) == 1


def test_a_pin_of_a_revoked_digest_is_rejected_wherever_it_comes_from(loaded: Load) -> None:
    pin = f"r.example/a/b/c@{OTHER}"
    policy = loaded(TEXT)
    assert docker(policy, extra_pins=[pin])[pin] == REJECT
    assert docker(replace(policy, pinned=(pin,)))[pin] == REJECT
    assert docker(replace(policy, revoked_digests=()), extra_pins=[pin])[pin] == ACCEPT


def test_an_accepted_tag_is_that_one_name(loaded: Load) -> None:
    found = docker(loaded(TEXT), accept_tags=["pause:3.10"])
    assert found["docker.io/library/pause:3.10"] == ACCEPT
    assert "docker.io/library/pause" not in found
    with pytest.raises(BadReference):
        docker(loaded(TEXT), accept_tags=["pause:"])


def test_the_order_in_the_file_changes_nothing(loaded: Load) -> None:
    lines = TEXT.splitlines(keepends=True)
    shuffled = "".join([*lines[7:], lines[0], lines[1], *reversed(lines[2:7])])
    assert crio.policy_json(loaded(shuffled), KEYS) == crio.policy_json(loaded(TEXT), KEYS)


def test_every_registry_with_a_scope_has_its_attachments_read(loaded: Load) -> None:
    found = yaml.safe_load(crio.registries_d(loaded(TEXT)))
    assert found == {"docker": {name: {"use-sigstore-attachments": True} for name in ("docker.io", "r.example")}}


def test_registries_are_led_to_their_places_and_no_others(tmp_path: Path) -> None:
    path = tmp_path / "registries.conf"
    path.write_bytes(crio.registries_conf({"r.test": ("127.0.0.1:5000", True), "f.test": ("127.0.0.1:5001", False)}))
    assert tomllib.loads(path.read_text()) == {
        "registry": [
            {"prefix": "f.test", "location": "127.0.0.1:5001", "insecure": False},
            {"prefix": "r.test", "location": "127.0.0.1:5000", "insecure": True},
        ]
    }
