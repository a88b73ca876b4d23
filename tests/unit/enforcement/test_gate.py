"""The gate's configuration names one runtime."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from countersign.enforcement.gate import CrioStorage, Gate, files
from countersign.enforcement.layout import SYSTEM
from countersign.nodes.host import HOST

STORAGE = CrioStorage(root="/srv/storage", run_root="/run/storage", nri="/run/nri.sock", socket="/run/crio.sock")


def rendered(gate: Gate) -> dict[str, object]:
    """Return the gate.json that goes to the node."""
    content = next(file.content for file in files(gate) if file.path == SYSTEM.gate_config)
    assert isinstance(content, bytes)
    document: dict[str, object] = json.loads(content)
    return document


def gate_of(tmp_path: Path, runtime_socket: str = "", crio: CrioStorage | None = None) -> Gate:
    """Return a gate for a runtime, with programs that are empty files."""
    program = tmp_path / "program"
    program.touch()
    return Gate(HOST, SYSTEM, program, program, b"{}", runtime_socket, crio=crio, nri="/run/nri.sock")


def test_containerd_alone_is_named_for_containerd(tmp_path: Path) -> None:
    """Its socket stands there, and nothing of CRI-O."""
    document = rendered(gate_of(tmp_path, "/run/containerd.sock"))
    assert document["containerd"] == {
        "address": "/run/containerd.sock",
        "namespace": "k8s.io",
        "snapshotters": ["overlayfs", "native"],
        "nri": "/run/nri.sock",
        "hook": SYSTEM.hook,
    }
    assert "crio" not in document


def test_crio_alone_is_named_for_crio(tmp_path: Path) -> None:
    """Its storage stands there with the hook that NRI looks for, and nothing of containerd."""
    document = rendered(gate_of(tmp_path, crio=STORAGE))
    assert document["crio"] == {
        "root": "/srv/storage",
        "runRoot": "/run/storage",
        "socket": "/run/crio.sock",
        "nri": "/run/nri.sock",
        "hook": SYSTEM.hook,
    }
    assert "containerd" not in document


@pytest.mark.parametrize(("socket", "crio"), [("", None), ("/run/containerd.sock", STORAGE)])
def test_a_gate_has_one_runtime(tmp_path: Path, socket: str, crio: CrioStorage | None) -> None:
    """Neither none nor two."""
    with pytest.raises(ValueError, match="containerd's socket or CRI-O's storage"):
        gate_of(tmp_path, socket, crio)
