"""CRI-O's files say what enforcement needs, and lose nothing that the node had."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from countersign.enforcement.layout import SYSTEM
from countersign.keys.pair import generate
from countersign.nodes.host import HOST
from countersign.policy import canary
from crio import private, render
from crio.paths import INSTALLED

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

POLICY = """\
apiVersion: countersign/v1
default: reject
roots:
  team: {publicKey: {files: [team.pub]}}
scopes:
  registry.example/app: {anyOf: [team]}
  registry.example/scratch: accept
  gcr.io: reject
pinned: []
revoked: {keys: [], certificates: [], digests: []}
"""
PIN = "registry.example/system/pause@sha256:" + "1" * 64


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    (tmp_path / "team.pub").write_text(generate().public.pem)
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    return path


def types(content: bytes) -> dict[str, str]:
    document = json.loads(content)
    assert document["default"] == [{"type": "reject"}]
    return {scope: rules[0]["type"] for scope, rules in document["transports"]["docker"].items()}


def test_the_drop_in_keeps_the_nodes_own_hooks_and_names_ours_once() -> None:
    first = render.drop_in(INSTALLED, ["/usr/share/containers/oci/hooks.d"], PIN)
    again = render.drop_in(INSTALLED, ["/usr/share/containers/oci/hooks.d", INSTALLED.hooks], PIN)
    assert first == again
    found = tomllib.loads(first.decode())["crio"]
    assert found["runtime"]["hooks_dir"] == ["/usr/share/containers/oci/hooks.d", INSTALLED.hooks]
    assert found["image"]["signature_policy"] == INSTALLED.policy
    assert found["image"]["pause_image"] == PIN
    assert found["nri"]["default_validator"]["nri_validator_required_plugins"] == ["countersign"]


def test_the_hook_is_for_every_container() -> None:
    found = json.loads(render.hook(SYSTEM))
    assert found["when"] == {"always": True}
    assert found["stages"] == ["createRuntime"]
    assert found["hook"]["path"] == SYSTEM.hook


def test_a_strict_engine_verifies_and_a_lenient_one_leaves_that_to_the_gate(policy: Path) -> None:
    strict = types(render.native(policy, INSTALLED, [PIN], "strict").policy)
    assert strict["registry.example/app"] == "sigstoreSigned"
    lenient = types(render.native(policy, INSTALLED, [PIN], "lenient").policy)
    assert lenient == {**strict, "registry.example/app": "insecureAcceptAnything"}
    assert (lenient["gcr.io"], lenient[PIN]) == ("reject", "insecureAcceptAnything")


@pytest.mark.parametrize("engine", ["strict", "lenient"])
def test_the_canary_alone_passes_the_own_engine_so_that_the_gate_is_seen_to_refuse(
    policy: Path, engine: render.Engine
) -> None:
    found = types(render.native(policy, INSTALLED, [], engine).policy)
    assert found[canary.REPOSITORY] == "insecureAcceptAnything"
    assert found[canary.REGISTRY] == "sigstoreSigned"


def test_the_policy_comes_after_the_keys_that_it_names(policy: Path) -> None:
    files = [file.path for file in render.native(policy, INSTALLED, [], "strict").files(HOST, INSTALLED)]
    assert files[-1] == INSTALLED.policy
    assert files[0].startswith(f"{INSTALLED.keys}/")


def test_a_private_crio_shares_no_path_with_the_machines_own(tmp_path: Path) -> None:
    ours = private.instance(tmp_path)
    for name, path in vars(ours.paths).items():
        assert path.startswith(str(tmp_path)), name
