from __future__ import annotations

import configparser
from pathlib import Path

import pytest

from countersign.console.errors import UsageError
from countersign.enforcement import gate, layout
from countersign.enforcement.layout import SYSTEM
from countersign.enforcement.node_units import UNIT_FILE


def test_everything_of_this_host_lies_below_its_state():
    paths = vars(layout.host(Path("/s"))).values()
    assert all(path.startswith("/s/host/") for path in paths)


def test_a_state_folder_that_is_too_deep_for_sockets_is_refused():
    deepest = "/" + "x" * (layout.SOCKET_LIMIT - len("/host/run/containerd.sock.ttrpc") - 1)
    assert layout.host(Path(deepest)).run.startswith(deepest)
    with pytest.raises(UsageError, match=r"paths of 108 bytes; expected at most 107; set INVOKE_STATE"):
        layout.host(Path(deepest + "x"))


def test_each_state_folder_has_a_name_of_its_own():
    assert layout.instance(Path("/a")) == layout.instance(Path("/a")) != layout.instance(Path("/b"))


def test_the_unit_runs_the_same_gate_with_the_same_watchdog():
    unit = configparser.ConfigParser(strict=False, interpolation=None, allow_no_value=True)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(UNIT_FILE)
    service = unit["Service"]
    assert service["ExecStart"] == f"{SYSTEM.gate} serve --config {SYSTEM.gate_config}"
    assert service["WatchdogSec"] == f"{gate.WATCHDOG:g}s"
    assert (service["Type"], service["Restart"], service["NoNewPrivileges"]) == ("notify", "always", "yes")
