from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from containerd.adapt import (
    IMAGES,
    RUNC,
    RUNTIME,
    VERIFIED_PULLS,
    VERIFIER,
    Wanted,
    adapted,
    format_version,
    with_handler,
)
from countersign.console.errors import InfrastructureError
from countersign.enforcement import nri
from countersign.enforcement.layout import SYSTEM

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

KIND = b"""# as kind writes it
version = 3
[plugins."io.containerd.cri.v1.images"]
  # save disk space
  discard_unpacked_layers = true
  use_local_image_pull = true
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "registry.k8s.io/pause:3.10"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
  base_runtime_spec = "/etc/containerd/cri-base.json"
"""
SANDBOX = "registry.k8s.io/pause@sha256:" + "a" * 64
WANTED = Wanted(
    SYSTEM, (2, 4), SANDBOX, {"runc": "/etc/countersign/base-runc.json"}, "linux/amd64", nri="/run/nri.sock"
)


def test_pulls_go_by_the_verifier_in_what_was_adapted():
    plugins = tomllib.loads(adapted(KIND, WANTED).decode())["plugins"]
    assert {key: plugins[IMAGES].get(key) for key in VERIFIED_PULLS} == VERIFIED_PULLS
    assert plugins[IMAGES]["pinned_images"]["sandbox"] == SANDBOX
    assert plugins[VERIFIER] == {"bin_dir": SYSTEM.verifiers, "per_verifier_timeout": "30s"}


def test_handlers_get_their_base_specs_and_restored_checkpoints_are_switched_off():
    runtime = tomllib.loads(adapted(KIND, WANTED).decode())["plugins"]["io.containerd.cri.v1.runtime"]
    assert runtime["enable_criu"] is False
    assert runtime["containerd"]["runtimes"]["runc"] == {
        "runtime_type": "io.containerd.runc.v2",
        "base_runtime_spec": "/etc/countersign/base-runc.json",
    }


def test_what_is_adapted_already_stays_as_it_is_byte_for_byte():
    once = adapted(KIND, WANTED)
    assert adapted(once, WANTED) == once
    assert b"# save disk space" in once


def test_certificates_folder_of_the_user_stays():
    mine = KIND + b'[plugins."io.containerd.cri.v1.images".registry]\n  config_path = "/mine"\n'
    images = tomllib.loads(adapted(mine, WANTED).decode())["plugins"]["io.containerd.cri.v1.images"]
    assert images["registry"]["config_path"] == "/mine"


def test_the_version_of_a_file_without_one_is_the_first():
    assert (format_version(b""), format_version(b"version = 2\n")) == (1, 2)


def test_what_is_no_toml_is_told():
    with pytest.raises(InfrastructureError, match="is not TOML"):
        adapted(b"version = [", WANTED)


def test_no_container_is_made_without_the_gate_where_containerd_can_require_it():
    config = tomllib.loads(adapted(KIND, WANTED).decode())
    assert config["plugins"][nri.NRI] == {
        **nri.SETTINGS,
        "socket_path": "/run/nri.sock",
        "default_validator": {**nri.VALIDATOR, "required_plugins": [nri.PLUGIN]},
    }
    old = tomllib.loads(adapted(KIND, replace(WANTED, version=(2, 1, 9), nri="")).decode())
    assert nri.NRI not in old["plugins"]


def test_plugins_that_the_user_requires_stay_and_a_waiver_goes():
    mine = KIND + (
        b'[plugins."io.containerd.nri.v1.nri".default_validator]\n  enable = false\n'
        b'  required_plugins = ["mine"]\n  tolerate_missing_plugins_annotation = "waive.me"\n'
    )
    found = tomllib.loads(adapted(mine, WANTED).decode())["plugins"][nri.NRI]["default_validator"]
    assert found == {
        "enable": True,
        "required_plugins": ["mine", "countersign"],
        "tolerate_missing_plugins_annotation": "",
    }


@pytest.mark.parametrize("hooked", [True, False])
def test_a_handler_is_added_beside_the_others_with_a_base_spec_that_is_there(hooked):
    before = adapted(KIND, WANTED)
    runtimes = tomllib.loads(with_handler(before, "added", hooked=hooked).decode())["plugins"][RUNTIME]["containerd"][
        "runtimes"
    ]
    spec = runtimes["runc"]["base_runtime_spec"]
    assert runtimes["added"] == {"runtime_type": RUNC, **({"base_runtime_spec": spec} if hooked else {})}
    assert set(runtimes) == {"runc", "added"}


def test_a_handler_of_another_runtime_is_added_with_its_program():
    config = with_handler(adapted(KIND, WANTED), "added", hooked=True, shim="/opt/shim").decode()
    added = tomllib.loads(config)["plugins"][RUNTIME]["containerd"]["runtimes"]["added"]
    assert added.pop("base_runtime_spec")
    assert added == {"runtime_type": "io.containerd.other.v2", "runtime_path": "/opt/shim"}


def test_where_no_handler_has_a_base_spec_none_is_given():
    with pytest.raises(InfrastructureError, match="no runtime handler has a base spec"):
        with_handler(b"version = 3\n", "added", hooked=True)
