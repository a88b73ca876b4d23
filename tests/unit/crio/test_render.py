"""CRI-O's files say what enforcement needs, and lose nothing that the node had."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from countersign.keys.pair import generate
from crio import private, render

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
TAG = "registry.example/system/pause:3.10"


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    (tmp_path / "team.pub").write_text(generate().public.pem)
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    return path


def test_registries_are_led_to_their_places_and_no_others() -> None:
    found = render.registries_conf({"r.test": ("127.0.0.1:5000", True), "f.test": ("127.0.0.1:5001", False)})
    assert tomllib.loads(found.decode()) == {
        "registry": [
            {"prefix": "f.test", "location": "127.0.0.1:5001", "insecure": False},
            {"prefix": "r.test", "location": "127.0.0.1:5000", "insecure": True},
        ]
    }


@pytest.mark.usefixtures("echoing_gate")
@pytest.mark.parametrize("engine", ["strict", "lenient"])
def test_its_own_engine_is_given_the_policy_with_pins_and_tags_and_the_policy_comes_last(
    policy: Path, engine: render.Engine, tmp_path: Path
) -> None:
    machine = replace(private.instance(tmp_path), engine=engine, tags=(TAG,))
    files = machine.native(policy, [PIN])
    assert [file.path for file in files] == [machine.paths.registries_d, machine.paths.policy]
    told = json.loads(bytes(files[-1].content))
    assert (told["policy"]["pinned"], told["tags"], told["lenient"]) == ([PIN], [TAG], engine == "lenient")


def test_a_private_crio_shares_no_path_with_the_machines_own(tmp_path: Path) -> None:
    ours = private.instance(tmp_path)
    for name, path in vars(ours.paths).items():
        assert path.startswith(str(tmp_path)), name
