from __future__ import annotations

import configparser
import json
from pathlib import Path

import pytest

from countersign.console.config import RegistrySettings
from countersign.console.errors import InfrastructureError, UsageError
from countersign.enforcement import gate, layout
from countersign.enforcement.base_spec import hook, with_hook
from countersign.enforcement.gate_unit import UNIT_FILE
from countersign.enforcement.layout import SYSTEM
from countersign.nodes.host import HOST
from countersign.nodes.template import render


def test_the_hook_is_what_the_runtime_specification_wants():
    assert hook(SYSTEM) == {
        "path": "/usr/local/bin/countersign-hook",
        "args": ["countersign-hook", "--socket", "/run/countersign/gate.sock"],
        "timeout": 10,
    }


def test_the_base_spec_is_the_runtimes_own_with_our_hook_in_front():
    default = {
        "ociVersion": "1.3.0",
        "process": {"cwd": "/", "rlimits": [{"type": "RLIMIT_NOFILE"}]},
        "hooks": {"createRuntime": [{"path": "/other"}], "poststop": [{"path": "/last"}]},
    }
    spec = json.loads(with_hook(json.dumps(default).encode(), SYSTEM))
    assert spec == {
        "ociVersion": "1.3.0",
        "process": {"cwd": "/"},
        "hooks": {"createRuntime": [hook(SYSTEM), {"path": "/other"}], "poststop": [{"path": "/last"}]},
    }


def test_a_base_spec_that_has_the_hook_stays_as_it_is():
    once = with_hook(b'{"process": {}}', SYSTEM)
    assert with_hook(once, SYSTEM) == once


@pytest.mark.parametrize("default", [b"", b"[]", b"{}", b'{"process": {}, "hooks": []}'])
def test_what_is_no_spec_is_refused(default):
    with pytest.raises(InfrastructureError, match="is not an OCI runtime spec"):
        with_hook(default, SYSTEM)


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


def test_the_gates_configuration_names_the_layout():
    text = render(gate.CONFIG, layout=SYSTEM, runtime_socket="/run/containerd/containerd.sock", nri="", crio=None)
    config = json.loads(text)
    assert config["policy"] == "/etc/countersign/policy.json"
    assert config["containerd"]["address"] == "/run/containerd/containerd.sock"
    assert config["registry"] == {"certsDir": SYSTEM.certs, "dockerConfig": SYSTEM.docker_config}


def test_the_gates_configuration_names_the_credential_providers():
    settings = RegistrySettings(credential_providers="/etc/providers.yaml", credential_provider_bin_dir="/opt/bin")
    parts = gate.Gate(
        HOST, SYSTEM, Path("gate"), Path("hook"), b"{}", "/run/c.sock", providers=gate.providers(settings)
    )
    text = next(file.content for file in gate.files(parts) if file.path == SYSTEM.gate_config)
    assert isinstance(text, bytes)
    wanted = {"config": "/etc/providers.yaml", "binDir": "/opt/bin"}
    assert json.loads(text)["registry"]["credentialProviders"] == wanted
    assert gate.providers(RegistrySettings()) is None


def test_the_unit_runs_the_same_gate_with_the_same_watchdog():
    unit = configparser.ConfigParser(strict=False, interpolation=None, allow_no_value=True)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(UNIT_FILE)
    service = unit["Service"]
    assert service["ExecStart"] == f"{SYSTEM.gate} serve --config {SYSTEM.gate_config}"
    assert service["WatchdogSec"] == f"{gate.WATCHDOG:g}s"
    assert (service["Type"], service["Restart"], service["NoNewPrivileges"]) == ("notify", "always", "yes")
