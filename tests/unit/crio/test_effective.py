"""What a CRI-O says of itself is read, and every setting by which a container could start unseen is found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from countersign.console.errors import InfrastructureError
from countersign.nodes.host import HostNode
from crio import doctor
from crio.effective import Effective, parse
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
    nri_disable_connections = false
    [crio.nri.default_validator]
    nri_enable_default_validator = true
    nri_validator_required_plugins = ["countersign"]
    nri_validator_tolerate_missing_plugins_annotation = ""
"""
GOOD = parse(TEXT)


def problems(found: Effective) -> list[str]:
    return [problem.where for problem in doctor.settings_problems(found, INSTALLED)]


def test_the_configuration_in_effect_is_read_with_the_default_handler_first() -> None:
    assert GOOD.handlers == ["runc", "crun"]
    assert GOOD.systemd_cgroups
    assert GOOD.policy == INSTALLED.policy


def test_what_is_no_configuration_is_one_clear_error() -> None:
    with pytest.raises(InfrastructureError, match="cannot be read"):
        parse("[crio]\n")


OLD, LEVEL = "enable_criu_support", "crio.checkpoint_restore.container_level_enabled"


@pytest.mark.parametrize(
    ("old", "table", "found"),
    [
        ("false", "", {}),
        ("true", "", {OLD: True}),
        (None, "", {OLD: True}),
        (None, 'container_level_enabled = "checkpoint_only"', {}),
        (None, 'container_level_enabled = "checkpoint_restore"', {LEVEL: "checkpoint_restore"}),
        ("false", 'container_level_enabled = "checkpoint_restore"', {LEVEL: "checkpoint_restore"}),
        ("true", 'container_level_enabled = "checkpoint_only"', {OLD: True}),
        (None, 'container_level_enabled = "a level to come"', {LEVEL: "a level to come"}),
        (None, 'container_level_enabled = "none"\n  timeout = 3', {}),
    ],
)
def test_restored_checkpoints_are_told_by_the_old_setting_and_by_the_new_table(old, table, found) -> None:
    text = TEXT.replace("    enable_criu_support = false\n", f"    enable_criu_support = {old}\n" if old else "")
    added = f"[crio.checkpoint_restore]\n  {table}\n" if table else ""
    assert parse(text + added).criu == found


def test_settings_as_set_up_leave_nothing_to_say() -> None:
    assert problems(GOOD) == []


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"policy": ""}, "signature_policy"),
        ({"policy": "/etc/containers/policy.json"}, "signature_policy"),
        ({"namespaces": "/etc/crio/policies"}, "signature_policy_dir"),
        ({"hooks_dirs": ["/usr/share/containers/oci/hooks.d"]}, "hooks_dir"),
        ({"criu": {"enable_criu_support": True}}, "enable_criu_support"),
        ({"sandbox": "registry.k8s.io/pause:3.10"}, "pause_image"),
        ({"nri": {**GOOD.nri, "enable_nri": False}}, "crio.nri.enable_nri"),
        ({"nri": {**GOOD.nri, "nri_disable_connections": True}}, "crio.nri.nri_disable_connections"),
        ({"nri": {**GOOD.nri, "nri_enable_default_validator": False}}, "crio.nri.nri_enable_default_validator"),
        ({"nri": {**GOOD.nri, "nri_validator_required_plugins": []}}, "crio.nri.nri_validator_required_plugins"),
        (
            {"nri": {**GOOD.nri, "nri_validator_tolerate_missing_plugins_annotation": "waive"}},
            "crio.nri.nri_validator_tolerate_missing_plugins_annotation",
        ),
        (
            {"nri": {**GOOD.nri, "nri_validator_reject_oci_hook_adjustment": True}},
            "crio.nri.nri_validator_reject_oci_hook_adjustment",
        ),
    ],
)
def test_each_setting_that_would_let_a_container_start_unseen_is_found(change: dict[str, Any], where: str) -> None:
    assert problems(replace(GOOD, **change)) == [where]


def test_a_gate_that_crio_does_not_ask_is_found() -> None:
    assert list(doctor.plugin_problems("connected")) == []
    assert [problem.found for problem in doctor.plugin_problems("disconnected")] == ["disconnected"]


def test_a_policy_for_one_namespace_and_an_open_folder_are_found(tmp_path) -> None:
    folder = tmp_path / "namespaces"
    folder.mkdir(mode=0o700)
    paths = replace(INSTALLED, namespaces=str(folder))
    assert list(doctor.namespace_problems(HostNode(), paths)) == []
    (folder / "loose.json").write_text("{}")
    folder.chmod(0o777)
    found = [problem.where for problem in doctor.namespace_problems(HostNode(), paths)]
    assert found == [str(folder / "loose.json"), str(folder)]
