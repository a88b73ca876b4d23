"""What the gate's program is told of a node (gate/internal/install/testdata), and what becomes of its answer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from countersign.console.config import ROOT, RegistrySettings
from countersign.console.errors import InfrastructureError
from countersign.enforcement import node_files
from countersign.enforcement.gate import CrioStorage, Gate, files, providers, written
from countersign.enforcement.layout import Layout
from countersign.nodes.host import HOST

LAYOUT = Layout(**{name: f"/p/{name}" for name in Layout.__dataclass_fields__})
STORAGE = CrioStorage(root="/srv/storage", run_root="/run/storage", nri="/run/nri.sock", socket="/run/crio.sock")
PROVIDERS = RegistrySettings(credential_providers="/etc/providers.yaml", credential_provider_bin_dir="/opt/bin")
FILES = {"/p/etc/gate.json": b"{}", "/p/etc/base-runc.json": b"spec"}
WRITTEN = node_files.Written(FILES, {"p": {"k": 1}}, {"/etc/crio": b"its own"})


def place(name: str) -> dict[str, Any]:
    """Return a description of a node that the Go tests read, too."""
    path = ROOT / "gate/internal/install/testdata" / f"{name}.json"
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def answering(tmp_path: Path, answer: object, code: int = 0) -> Path:
    """Return a program in the place of the gate that keeps what it is told, and gives an answer."""
    program, told = tmp_path / "countersign-gate", tmp_path / "told"
    (tmp_path / "answer").write_text(answer if isinstance(answer, str) else json.dumps(answer))
    error = 'error: node-files: crio.root: "x" is not an absolute path'
    program.write_text(f"#!/bin/sh\ncat > {told}\ncat {tmp_path}/answer\necho '{error}' >&2\nexit {code}\n")
    program.chmod(0o755)
    return program


def good() -> dict[str, Any]:
    """Return an answer."""
    return {
        "version": node_files.VERSION,
        "files": {path: each.decode() for path, each in FILES.items()},
        "plugins": {"p": {"k": 1}},
        "crio": {"/etc/crio": "its own"},
    }


def gate_of(program: Path, runtime_socket: str = "", crio: CrioStorage | None = None) -> Gate:
    """Return a gate for a runtime, as testdata has it."""
    told = place("crio" if crio else "containerd")
    specs = {path: spec.encode() for path, spec in told["baseSpecs"].items()}
    keys = tuple(told["policyKeys"])
    nri, told_of, helpers = "/run/nri.sock", told["crio" if crio else "containerd"]["told"], providers(PROVIDERS)
    return Gate(HOST, LAYOUT, program, program, b"{}", runtime_socket, specs, crio, nri, keys, helpers, told_of)


@pytest.mark.parametrize(("name", "socket", "crio"), [("containerd", "/run/c.sock", None), ("crio", "", STORAGE)])
def test_the_program_is_told_what_its_own_tests_read(
    tmp_path: Path, name: str, socket: str, crio: CrioStorage | None
) -> None:
    """Both sides are held to the same document."""
    assert written(gate_of(answering(tmp_path, good()), socket, crio)) == WRITTEN
    assert json.loads((tmp_path / "told").read_text()) == place(name)


def test_what_it_gives_is_put_on_the_node_as_it_is(tmp_path: Path) -> None:
    """Beside the programs, and the credentials for root alone."""
    program = answering(tmp_path, good())
    found = {file.path: (file.content, file.mode) for file in files(gate_of(program, "/run/c.sock"))}
    assert {path: found[path] for path in FILES} == {path: (content, 0o644) for path, content in FILES.items()}
    assert found[LAYOUT.docker_config] == (b"{}", 0o600)
    assert {found[LAYOUT.gate], found[LAYOUT.hook]} == {(program, 0o755)}


def test_no_credential_providers_are_told_where_none_are_set(tmp_path: Path) -> None:
    """Set-up has two settings for them, which go together."""
    assert providers(RegistrySettings()) is None
    written(replace(gate_of(answering(tmp_path, good()), "/run/c.sock"), providers=None))
    assert json.loads((tmp_path / "told").read_text())["credentialProviders"] is None


@pytest.mark.parametrize(
    ("answer", "code", "says"),
    [
        (good(), 2, 'crio.root: "x" is not an absolute path$'),
        (good() | {"version": "countersign.node-files/v9"}, 0, "expected countersign.node-files/v1"),
        ("panic", 0, "gave no answer that can be read"),
        ([], 0, "gave no answer that can be read"),
        ({"version": node_files.VERSION, "files": {"/p": 1}, "plugins": None}, 0, "gave no answer that can be read"),
    ],
)
def test_what_is_no_answer_is_told(tmp_path: Path, answer: object, code: int, says: str) -> None:
    """With the program, and its own words where it has some."""
    with pytest.raises(InfrastructureError, match=says):
        written(gate_of(answering(tmp_path, answer, code), "/run/c.sock"))


@pytest.mark.parametrize(("socket", "crio"), [("", None), ("/run/containerd.sock", STORAGE)])
def test_a_gate_has_one_runtime(tmp_path: Path, socket: str, crio: CrioStorage | None) -> None:
    """Neither none nor two."""
    with pytest.raises(ValueError, match="containerd's socket or CRI-O's storage"):
        gate_of(tmp_path, socket, crio)
