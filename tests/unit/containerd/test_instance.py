from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from containerd.adapt import IMAGES, RUNTIME
from containerd.instance import PROGRAMS, Instance, instance
from countersign.enforcement import nri
from countersign.enforcement.node_files import Written
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


def config(ours: Instance, facts: Facts = PLAIN, plugins: Mapping[str, Any] | None = None) -> dict[str, Any]:
    files = replace(ours, facts=facts).files(Written({}, plugins or {}))
    found = next(file for file in files if file.path == ours.config)
    assert isinstance(found.content, bytes)
    return tomllib.loads(found.content.decode())


def test_what_enforcement_needs_of_our_own_containerd_is_what_it_needs_of_any(ours):
    told = ours.gate_options()["told"]
    assert told["config"] == tomllib.loads(ours.plain().decode())
    assert told["handlers"] == dict.fromkeys(HANDLERS, ours.layout.base_spec)
    assert (told["sandbox"], told["platform"], told["lacksResource"]) == (SANDBOX, "linux/amd64", False)
    assert config(ours)["plugins"][nri.NRI]["socket_path"] == ours.gate_options()["nri"] == ours.nri
    wanted = {IMAGES: {"use_local_image_pull": False}}
    assert config(ours, plugins=wanted)["plugins"][IMAGES] == {"snapshotter": "overlayfs", **wanted[IMAGES]}


def test_with_handlers_that_lack_the_hook_it_is_not_required(ours):
    compared = replace(ours, more_handlers={"bench": "/bench.json"})
    assert compared.gate_options()["nri"] == ""
    assert config(compared)["plugins"][nri.NRI] == {"disable": True}


def test_a_handler_with_a_base_spec_of_its_own_is_beside_ours(ours):
    runtime = config(replace(ours, more_handlers={"bench": "/bench.json"}))["plugins"][RUNTIME]["containerd"]
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
    assert len(found) >= 8
    assert [path for path in found if not path.startswith(f"{ours.root}/")] == []


def test_a_poor_machine_gets_what_works_there(ours):
    plugins = config(ours, POOR)["plugins"]
    assert plugins[IMAGES]["snapshotter"] == "native"
    assert plugins[RUNTIME]["restrict_oom_score_adj"] is True
    told = replace(ours, facts=POOR).gate_options()["told"]
    assert (told["platform"], told["lacksResource"]) == ("linux/arm64", True)


def test_what_no_setting_moves_is_shadowed(ours):
    made = ours.service(Written({ours.layout.base_spec: SPEC}))
    assert set(made.shadows) == {"/run/containerd", "/var/lib/cni"}
    assert all(target.startswith(f"{ours.root}/") for target in made.shadows.values())
    assert made.env["COUNTERSIGN_CONFIG"] == ours.layout.gate_config


def test_containerd_restarts_when_anything_it_read_changes(ours):
    def digest(facts: Facts = PLAIN, spec: bytes = SPEC, shim: str = "shim") -> str:
        programs = {**CACHED, "containerd-shim-runc-v2": Path(shim)}
        made = replace(ours, facts=facts, programs=programs)
        found: str = made.service(Written({ours.layout.base_spec: spec})).digest()
        return found

    assert digest() == digest()
    assert len({digest(), digest(facts=POOR), digest(spec=b'{"process": {"user": {}}}'), digest(shim="other")}) == 4
