"""What a CRI-O says of itself is read."""

from __future__ import annotations

import pytest

from countersign.console.errors import InfrastructureError
from crio.effective import parse
from crio.paths import INSTALLED

TEXT = """
[crio]
  root = "/var/lib/containers/storage"
  runroot = "/run/containers/storage"
  [crio.runtime]
    hooks_dir = ["/usr/share/containers/oci/hooks.d", "/etc/countersign/crio/hooks.d"]
    default_runtime = "runc"
    cgroup_manager = "systemd"
    enable_criu_support = false
    [crio.runtime.runtimes.crun]
      runtime_path = "/usr/bin/crun"
    [crio.runtime.runtimes.runc]
      runtime_path = "/usr/bin/runc"
  [crio.image]
    pause_image = "registry.k8s.io/pause@sha256:1111"
    signature_policy = "/etc/countersign/crio/policy.json"
    signature_policy_dir = "/etc/countersign/crio/namespaces"
  [crio.nri]
    enable_nri = true
    nri_listen = "/run/crio/nri.sock"
    nri_disable_connections = false
    [crio.nri.default_validator]
    nri_enable_default_validator = true
    nri_validator_required_plugins = ["countersign"]
    nri_validator_tolerate_missing_plugins_annotation = ""
"""
GOOD = parse(TEXT)


def test_the_configuration_in_effect_is_read_with_the_default_handler_first() -> None:
    assert GOOD.handlers == ["runc", "crun"]
    assert GOOD.systemd_cgroups
    assert GOOD.config["runtime"]["hooks_dir"] == ["/usr/share/containers/oci/hooks.d", "/etc/countersign/crio/hooks.d"]


def test_nri_is_where_it_is_served_and_else_where_it_usually_is() -> None:
    assert GOOD.nri == "/run/crio/nri.sock"
    assert parse(TEXT.replace('nri_listen = "/run/crio/nri.sock"', "")).nri == INSTALLED.nri


def test_what_is_no_configuration_is_one_clear_error() -> None:
    with pytest.raises(InfrastructureError, match="cannot be read"):
        parse("[crio]\n")
