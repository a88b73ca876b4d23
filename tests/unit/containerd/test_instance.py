from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from containerd.adapt import IMAGES, RUNTIME, VERIFIED_PULLS, VERIFIER
from containerd.instance import PROGRAMS, Instance, instance
from countersign.enforcement import nri
from countersign.nodes.facts import Facts
from countersign.runtimes.private import HANDLERS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SANDBOX = "registry.example/pause@sha256:" + "0" * 64
PLAIN = Facts("overlayfs", restrict_oom_score_adj=False, platform="linux/amd64")
SPEC = b'{"process": {}}'
POOR = Facts("native", restrict_oom_score_adj=True, platform="linux/arm64")
CACHED = {tool: Path(f"/cache/{tool}") for tool in PROGRAMS}


@pytest.fixture
def ours(tmp_path: Path) -> Instance:
    return replace(instance(tmp_path), sandbox_image=SANDBOX, programs=CACHED, facts=PLAIN, spec=SPEC)


def config(ours: Instance, facts: Facts = PLAIN) -> dict[str, Any]:
    found = next(file for file in replace(ours, facts=facts).files() if file.path == ours.config)
    assert isinstance(found.content, bytes)
    return tomllib.loads(found.content.decode())


@pytest.mark.parametrize("facts", [PLAIN, POOR])
def test_pulls_of_our_own_containerd_go_by_the_verifier(ours, facts):
    plugins = config(ours, facts)["plugins"]
    assert {key: plugins[IMAGES].get(key) for key in VERIFIED_PULLS} == VERIFIED_PULLS
    assert plugins[IMAGES]["pinned_images"]["sandbox"] == SANDBOX
    assert plugins[VERIFIER] == {"bin_dir": ours.layout.verifiers, "max_verifiers": 1, "per_verifier_timeout": "30s"}


def test_our_own_containerd_makes_no_container_without_the_gate(ours):
    found = config(ours)["plugins"][nri.NRI]
    assert {key: found.get(key) for key in nri.SETTINGS} == nri.SETTINGS
    assert found["default_validator"] == {**nri.VALIDATOR, "required_plugins": [nri.PLUGIN]}
    assert found["socket_path"] == ours.nri


def test_with_handlers_that_lack_the_hook_it_is_not_required(ours):
    files = replace(ours, more_handlers={"bench": "/bench.json"}).files()
    content = next(file.content for file in files if file.path == ours.config)
    assert isinstance(content, bytes)
    assert tomllib.loads(content.decode())["plugins"][nri.NRI] == {"disable": True}


def test_every_handler_has_the_hook(ours):
    handlers = config(ours)["plugins"][RUNTIME]["containerd"]["runtimes"]
    assert set(handlers) == set(HANDLERS)
    assert {handler["base_runtime_spec"] for handler in handlers.values()} == {ours.layout.base_spec}


def test_a_handler_with_a_base_spec_of_its_own_is_beside_ours(ours):
    files = replace(ours, more_handlers={"bench": "/bench.json"}).files()
    content = next(file.content for file in files if file.path == ours.config)
    assert isinstance(content, bytes)
    found = tomllib.loads(content.decode())
    runtime = found["plugins"][RUNTIME]["containerd"]
    assert runtime["default_runtime_name"] == HANDLERS[0]
    assert set(runtime["runtimes"]) == {*HANDLERS, "bench"}
    assert runtime["runtimes"]["bench"]["base_runtime_spec"] == "/bench.json"


def test_every_path_is_below_the_instance(ours):
    def paths(value: Any) -> list[str]:
        if isinstance(value, dict):
            return [path for each in value.values() for path in paths(each)]
        if isinstance(value, list):
            return [path for each in value for path in paths(each)]
        return [value] if isinstance(value, str) and value.startswith("/") else []

    found = paths(config(ours))
    assert len(found) >= 10
    assert [path for path in found if not path.startswith(f"{ours.root}/")] == []


def test_a_poor_machine_gets_what_works_there(ours):
    plugins = config(ours, POOR)["plugins"]
    assert plugins[IMAGES]["snapshotter"] == "native"
    assert plugins[RUNTIME]["restrict_oom_score_adj"] is True
    assert plugins["io.containerd.transfer.v1.local"]["unpack_config"] == [
        {"platform": "linux/arm64", "snapshotter": "native", "differ": "walking"}
    ]
    assert "io.containerd.transfer.v1.local" not in config(ours, PLAIN)["plugins"]


def test_what_no_setting_moves_is_shadowed(ours):
    made = ours.service({ours.layout.base_spec: SPEC})
    assert set(made.shadows) == {"/run/containerd", "/var/lib/cni"}
    assert all(target.startswith(f"{ours.root}/") for target in made.shadows.values())
    assert made.env["COUNTERSIGN_CONFIG"] == ours.layout.gate_config


def test_containerd_restarts_when_anything_it_read_changes(ours):
    def digest(facts: Facts = PLAIN, spec: bytes = SPEC, shim: str = "shim") -> str:
        programs = {**CACHED, "containerd-shim-runc-v2": Path(shim)}
        made = replace(ours, facts=facts, programs=programs)
        found: str = made.service({ours.layout.base_spec: spec}).digest()
        return found

    assert digest() == digest()
    assert len({digest(), digest(facts=POOR), digest(spec=b'{"process": {"user": {}}}'), digest(shim="other")}) == 4
