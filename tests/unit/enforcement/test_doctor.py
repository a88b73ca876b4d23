from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from countersign.enforcement import doctor, gate
from countersign.enforcement.base_spec import with_hook
from countersign.enforcement.doctor import IMAGES, RUNTIME, VERIFIER
from countersign.enforcement.layout import SYSTEM
from countersign.nodes.node import Result
from countersign.nodes.template import render

SPEC = with_hook(b'{"process": {}}', SYSTEM)
GOOD: Mapping[str, Any] = {
    "disabled_plugins": ["io.containerd.snapshotter.v1.zfs"],
    "plugins": {
        IMAGES: {
            **doctor.VERIFIED_PULLS,
            "pinned_images": {"sandbox": "registry.k8s.io/pause@sha256:" + "0" * 64},
            "registry": {"config_path": SYSTEM.certs, "mirrors": {}},
        },
        VERIFIER: {"bin_dir": SYSTEM.verifiers, "max_verifiers": 1, "per_verifier_timeout": "30s"},
        RUNTIME: {
            "enable_criu": False,
            "containerd": {
                "runtimes": {
                    name: {"runtime_type": doctor.RUNC, "base_runtime_spec": SYSTEM.base_spec, "snapshotter": ""}
                    for name in ("runc", "other")
                }
            },
        },
    },
}


def changed(path: Sequence[str], value: Any) -> dict[str, Any]:
    config = copy.deepcopy(dict(GOOD))
    table = config
    for key in path[:-1]:
        table = table.setdefault(key, {})
    if value is None:
        del table[path[-1]]
    else:
        table[path[-1]] = value
    return config


def problems(config: Mapping[str, Any], version: tuple[int, int] = (2, 4), spec: bytes | None = SPEC) -> list[str]:
    found = [
        *doctor.pull_problems(config, SYSTEM),
        *doctor.handler_problems(config, SYSTEM, version, lambda _: spec),
    ]
    return [str(problem) for problem in found]


def test_our_own_settings_pass():
    assert problems(GOOD) == []


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (("plugins", IMAGES, "use_local_image_pull"), True, "use_local_image_pull is true, expected false"),
        (("plugins", IMAGES, "use_local_image_pull"), None, 'use_local_image_pull is "absent", expected false'),
        (("plugins", IMAGES, "disable_snapshot_annotations"), False, "is false, expected true"),
        (("plugins", IMAGES, "discard_unpacked_layers"), True, "discard_unpacked_layers is true, expected false"),
        (("plugins", IMAGES, "max_concurrent_downloads"), 5, "max_concurrent_downloads is 5, expected 3"),
        (("plugins", IMAGES, "image_pull_with_sync_fs"), True, "image_pull_with_sync_fs is true, expected false"),
        (("plugins", IMAGES, "registry", "mirrors"), {"docker.io": {}}, "registry.mirrors is set, expected empty"),
        (("plugins", IMAGES, "registry", "configs"), {"a": {}}, "registry.configs is set"),
        (("plugins", IMAGES, "registry", "auths"), {"a": {}}, "registry.auths is set"),
        (
            ("plugins", IMAGES, "pinned_images", "sandbox"),
            "pause:3.10",
            'sandbox is "pause:3.10", expected an image by',
        ),
        (("plugins", VERIFIER, "bin_dir"), "/opt/other", 'bin_dir is "/opt/other"'),
        (("plugins", VERIFIER, "per_verifier_timeout"), "10s", "per_verifier_timeout is 10s, expected more than 20s"),
        (("disabled_plugins",), ["io.containerd.image-verifier.v1"], "disabled_plugins is with io.containerd.image"),
        (("disabled_plugins",), ["io.containerd.transfer.v1.local"], "disabled_plugins is with io.containerd.transfer"),
        (("plugins", RUNTIME, "enable_criu"), None, "enable_criu is true, expected false"),
        (
            ("plugins", RUNTIME, "containerd", "runtimes", "other", "base_runtime_spec"),
            "",
            "handler other: base_runtime",
        ),
        (
            ("plugins", RUNTIME, "containerd", "runtimes", "other", "runtime_type"),
            "io.containerd.kata.v2",
            "handler other",
        ),
        (("plugins", RUNTIME, "containerd", "runtimes", "other", "snapshotter"), "nydus", 'snapshotter is "nydus"'),
    ],
)
def test_what_would_let_an_image_through_is_told(path, value, told):
    found = problems(changed(path, value))
    assert len(found) == 1, found
    assert told in found[0]


@pytest.mark.parametrize(
    "spec",
    [
        None,
        b"{}",
        b"not json",
        SPEC.replace(b"gate.sock", b"none.sock"),
        SPEC.replace(b'"timeout": 10', b'"timeout": 100'),
        SPEC.replace(b"createRuntime", b"poststart"),
    ],
)
def test_a_base_spec_without_our_very_hook_is_told(spec):
    assert [text.partition(" is ")[2] for text in problems(GOOD, spec=spec)] == [
        "without our createRuntime hook, expected the hook as set-up wrote it"
    ] * 2


@pytest.mark.parametrize(
    ("version", "criu", "told"),
    [
        ((2, 0), False, "version 2.0, expected 2.1 or newer"),
        ((1, 7), False, "version 1.7, expected 2.1 or newer"),
        ((2, 3), True, "installed beside containerd version 2.3"),
        ((2, 3), False, ""),
        ((2, 4), True, ""),
    ],
)
def test_versions_are_judged_by_what_they_lack(version, criu, told):
    found = " ".join(map(str, doctor.version_problems(version, criu=criu)))
    assert told in found
    assert bool(found) == bool(told)


def test_before_its_switch_came_criu_is_no_setting():
    assert problems(changed(("plugins", RUNTIME, "enable_criu"), None), version=(2, 3)) == []


def test_the_daemons_own_word_counts():
    line = "level=warning msg=\"Found 'DiscardUnpackedLayers' in CRI config which is … (not supported). "
    assert [problem.where for problem in doctor.log_problems(line + doctor.FALLBACK)] == ["containerd's log"]
    assert list(doctor.log_problems("level=info")) == []


class _Folder:
    """A node whose verifier folder and files are as a test says."""

    name = "fake"

    def __init__(self, entries: Sequence[str], stats: str = "root 755") -> None:
        self.entries, self.stats = entries, stats

    def run(self, argv: Sequence[str], **_: Any) -> Result:
        text = "\n".join(self.entries) if argv[0] == "ls" else self.stats
        return Result(tuple(argv), 0, text.encode(), b"", 0)


Folder: Any = _Folder
OURS = "countersign-image-verifier"


@pytest.mark.parametrize(
    ("entries", "most", "told"),
    [
        ([OURS], 1, ""),
        (["another", OURS], 2, ""),
        (["another", OURS], -1, ""),
        ([], 1, "without our verifier"),
        (["another"], 1, "without our verifier"),
        (["another", OURS], 1, "max_verifiers is 1, expected more than 1"),
        ([OURS], 0, "max_verifiers is 0, expected more than 0"),
    ],
)
def test_the_verifier_is_among_those_that_are_asked(entries, most, told):
    found = " ".join(map(str, doctor.folder_problems(Folder(entries), SYSTEM, most)))
    assert told in found
    assert bool(found) == bool(told)


@pytest.mark.parametrize(
    ("stats", "told"),
    [
        ("", "missing"),
        ("nobody 755", "nobody's with mode 755"),
        ("root 775", "mode 775"),
        ("root 757", "mode 757"),
        ("root 644", "mode 644"),
    ],
)
def test_nobody_else_can_change_our_programs(stats, told):
    found = [str(problem) for problem in doctor.folder_problems(Folder([OURS], stats), SYSTEM, 1)]
    assert len(found) == 3
    assert all(told in text for text in found)


@pytest.mark.parametrize(
    ("text", "expected"), [("10s", 10), ("1m30s", 90), ("1.5h", 5400), ("500ms", 0.5), ("", 0), ("never", 0)]
)
def test_durations_are_read_as_go_writes_them(text, expected):
    assert doctor.seconds(text) == pytest.approx(expected)


def test_the_verifier_may_take_longer_than_the_gate():
    config = json.loads(
        render(gate.CONFIG, layout=SYSTEM, runtime_socket="/run/containerd/containerd.sock", nri="", crio=None)
    )
    assert doctor.seconds(config["timeouts"]["pull"]) == doctor.PULL_DEADLINE
