from __future__ import annotations

import sys
from typing import Any

import pytest

from containerd.adapt import IMAGES, RUNC, RUNTIME, adapted, format_version, with_handler
from countersign.console.errors import InfrastructureError
from countersign.enforcement.nri import NRI

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
TRANSFER = "io.containerd.transfer.v1.local"
NATIVE = {"platform": "linux/amd64", "snapshotter": "native", "differ": "walking"}
WANTED: dict[str, Any] = {
    IMAGES: {"use_local_image_pull": False, "discard_unpacked_layers": False, "registry": {"config_path": "/certs"}},
    RUNTIME: {
        "enable_criu": False,
        "containerd": {"runtimes": {"runc": {"base_runtime_spec": "/etc/countersign/base-runc.json"}}},
    },
    NRI: {"default_validator": {"enable": True, "required_plugins": ["countersign"]}},
    TRANSFER: {"unpack_config": [NATIVE]},
}


def test_what_enforcement_needs_is_set_and_the_rest_stays():
    plugins = tomllib.loads(adapted(KIND, WANTED).decode())["plugins"]
    assert plugins[IMAGES] == {**WANTED[IMAGES], "pinned_images": {"sandbox": "registry.k8s.io/pause:3.10"}}
    assert plugins[RUNTIME]["enable_criu"] is False
    assert plugins[RUNTIME]["containerd"]["runtimes"]["runc"] == {
        "runtime_type": "io.containerd.runc.v2",
        "base_runtime_spec": "/etc/countersign/base-runc.json",
    }
    assert (plugins[NRI], plugins[TRANSFER]) == (WANTED[NRI], WANTED[TRANSFER])


def test_what_is_adapted_already_stays_as_it_is_byte_for_byte():
    once = adapted(KIND, WANTED)
    assert adapted(once, WANTED) == once
    assert b"# save disk space" in once


def test_the_version_of_a_file_without_one_is_the_first():
    assert (format_version(b""), format_version(b"version = 2\n")) == (1, 2)


def test_what_is_no_toml_is_told():
    with pytest.raises(InfrastructureError, match="is not TOML"):
        adapted(b"version = [", WANTED)


@pytest.mark.parametrize("more", [{}, {"snapshotter": "erofs"}])
def test_a_list_of_the_users_gets_what_it_lacks(more):
    mine = KIND + (
        b'[plugins."io.containerd.nri.v1.nri".default_validator]\n  enable = false\n  required_plugins = ["mine"]\n'
        b'[[plugins."io.containerd.transfer.v1.local".unpack_config]]\n'
        + "".join(f'{key} = "{value}"\n' for key, value in {**NATIVE, **more}.items()).encode()
    )
    once = adapted(mine, WANTED)
    found = tomllib.loads(once.decode())["plugins"]
    assert found[NRI]["default_validator"] == {"enable": True, "required_plugins": ["mine", "countersign"]}
    assert found[TRANSFER]["unpack_config"] == [{**NATIVE, **more}, *([NATIVE] if more else [])]
    assert adapted(once, WANTED) == once


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
