"""Containerd makes no container without the gate: the settings that say so, and what doctor says where they do not."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytest

from countersign.enforcement import nri
from countersign.enforcement.ask import GateDown
from countersign.enforcement.layout import SYSTEM
from countersign.nodes.host import HostNode
from countersign.nodes.node import Result

GOOD: dict[str, Any] = {
    "disabled_plugins": ["io.containerd.snapshotter.v1.zfs"],
    "plugins": {
        nri.NRI: {
            "disable": False,
            "disable_connections": False,
            "socket_path": "/run/nri.sock",
            "default_validator": {
                "enable": True,
                "required_plugins": ["another", "countersign"],
                "tolerate_missing_plugins_annotation": "",
            },
        }
    },
}
VALIDATOR = ("plugins", nri.NRI, "default_validator")


def changed(path: Sequence[str], value: Any) -> dict[str, Any]:
    config = copy.deepcopy(GOOD)
    table = config
    for key in path[:-1]:
        table = table[key]
    if value is None:
        del table[path[-1]]
    else:
        table[path[-1]] = value
    return config


def problems(config: dict[str, Any], version: tuple[int, ...] = (2, 2, 0)) -> list[str]:
    return [str(problem) for problem in nri.setting_problems(config, version)]


def test_a_containerd_that_requires_the_gate_passes():
    assert problems(GOOD) == []


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (("disabled_plugins",), ["io.containerd.nri.v1.nri"], "disabled_plugins is with io.containerd.nri.v1.nri"),
        (("plugins",), {}, 'required_plugins is [], expected one with "countersign"'),
        (("plugins", nri.NRI, "disable"), True, "nri.disable is true, expected false"),
        (("plugins", nri.NRI, "disable_connections"), True, "disable_connections is true, expected false"),
        (VALIDATOR, None, 'default_validator.enable is "absent", expected true'),
        ((*VALIDATOR, "enable"), False, "default_validator.enable is false, expected true"),
        ((*VALIDATOR, "required_plugins"), ["another"], 'required_plugins is ["another"]'),
        ((*VALIDATOR, "required_plugins"), None, "required_plugins is []"),
        ((*VALIDATOR, "tolerate_missing_plugins_annotation"), "waive.me", 'annotation is "waive.me", expected ""'),
    ],
)
def test_what_would_let_a_container_be_made_without_the_gate_is_told(path, value, told):
    assert any(told in text for text in problems(changed(path, value)))


def test_a_containerd_that_is_too_old_is_asked_for_nothing():
    assert problems({}, (2, 1, 9)) == []
    assert nri.socket(GOOD, (2, 1, 9)) == ""


def test_the_socket_is_the_one_in_effect_or_containerds_default():
    assert nri.socket(GOOD, (2, 2, 0)) == "/run/nri.sock"
    assert nri.socket({}, (2, 4, 2)) == nri.DEFAULT_SOCKET


@pytest.mark.parametrize(
    ("state", "told"),
    [("connected", []), ("disconnected", ["disconnected"]), ("off", ["off"]), (GateDown("is down"), ["is down"])],
)
def test_a_gate_that_is_not_asked_is_told(monkeypatch, state, told):
    def ask(*_: object) -> dict[str, str]:
        if isinstance(state, GateDown):
            raise state
        return {"nri": state}

    monkeypatch.setattr(nri, "ask", ask)
    found = [problem.found for problem in nri.plugin_problems(HostNode(), SYSTEM, (2, 2, 0))]
    assert found == told
    assert list(nri.plugin_problems(HostNode(), SYSTEM, (2, 1, 9))) == []


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (b"v0.12.3\n", "a: NRI v0.12.3 lets the gate's own validation fail"),
        (b"v0.12.4\n", "a: NRI v0.12.4 fails what a hung gate does not answer"),
        (b"v0.13.0-rc.1\n", "a: NRI v0.13.0-rc.1 fails what a hung gate does not answer"),
        (b"", "a: which NRI containerd was built with can't be told"),
    ],
)
def test_the_runtimes_nri_is_named_with_what_follows_for_a_hung_gate(version, expected):
    class Told(HostNode):
        def run(self, argv: Sequence[str], **_: Any) -> Result:
            assert list(argv[3:]) == [SYSTEM.gate, "containerd"]
            return Result(tuple(argv), 0, version, b"", 0.0)

    assert nri.told(Told("a"), SYSTEM, "containerd").startswith(expected)


@pytest.mark.parametrize(
    ("answers", "asked"),
    [(["disconnected", "connected", "connected"], 3), (["connected", "disconnected", "connected", "connected"], 4)],
)
def test_a_plugin_is_waited_for_until_it_says_twice_that_it_is_there(monkeypatch, answers, asked):
    said = iter(answers)
    count = []

    def ask(*_: object) -> dict[str, str]:
        count.append(1)
        return {"nri": next(said)}

    monkeypatch.setattr(nri, "ask", ask)
    nri.wait_for_plugin(HostNode(), SYSTEM, within=30)
    assert len(count) == asked


def test_a_gate_that_is_no_plugin_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(nri, "ask", lambda *_: {"nri": "off"})
    nri.wait_for_plugin(HostNode(), SYSTEM, within=0)
