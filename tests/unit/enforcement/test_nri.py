"""Containerd makes no container without the gate: where its plugin registers, and when it has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from countersign.enforcement import nri
from countersign.enforcement.layout import SYSTEM
from countersign.nodes.host import HostNode
from countersign.nodes.node import Result


def test_the_socket_is_the_one_in_effect_or_containerds_default():
    assert nri.socket({"plugins": {nri.NRI: {"socket_path": "/run/nri.sock"}}}, (2, 2, 0)) == "/run/nri.sock"
    assert nri.socket({}, (2, 1, 9)) == ""
    assert nri.socket({}, (2, 4, 2)) == nri.DEFAULT_SOCKET


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

    def request(*_: object) -> dict[str, str]:
        count.append(1)
        return {"nri": next(said)}

    monkeypatch.setattr(nri, "request", request)
    nri.wait_for_plugin(HostNode(), SYSTEM, within=30)
    assert len(count) == asked


def test_a_gate_that_is_no_plugin_is_not_waited_for(monkeypatch):
    said = iter([{"nri": "off"}, {"nri": "connected"}])
    monkeypatch.setattr(nri, "request", lambda *_: next(said))
    nri.wait_for_plugin(HostNode(), SYSTEM, within=30)
    assert next(said) == {"nri": "connected"}  # it was asked once
