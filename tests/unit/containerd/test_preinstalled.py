"""What nodes that are made under enforcement are given, and what of it is kept."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from containerd import enforce, preinstalled
from containerd.preinstalled import MARKER, TEMPLATES, Look
from containerd.runtime import CONFIG
from containerd.survey import Survey
from countersign.console.config import Settings
from countersign.console.errors import InfrastructureError
from countersign.enforcement import node_units
from countersign.nodes.host import HOST, HostNode
from countersign.nodes.steps import File, Folder, Group, Link
from countersign.nodes.systemd import UnitRuns
from countersign.nodes.template import render

SANDBOX = "registry.example/pause@sha256:" + "a" * 64
SURVEY = Survey(
    version=(2, 4),
    config=b"version = 3\n",
    base_specs={"/etc/countersign/base-runc.json": b"{}"},
    handlers={"runc": "/etc/countersign/base-runc.json"},
    sandbox=SANDBOX,
    snapshotter="overlayfs",
    certs="/etc/containerd/certs.d",
    platform="linux/amd64",
    systemd_cgroups=True,
    lacks_resource=False,
    nri="/run/nri.sock",
)
LOOK = Look(SURVEY, {"registry.example/pause:3": "sha256:" + "a" * 64}, "0" * 64)


class Engine:
    """An engine that has one image."""

    def __init__(self) -> None:
        self.images = self
        self.id = "sha256:1"

    def get(self, _: str) -> Any:
        return self


def test_what_an_image_says_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Probe:
        def __enter__(self) -> HostNode:
            asked.append(1)
            return HostNode()

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(preinstalled, "_probe", lambda *_: Probe())
    monkeypatch.setattr("containerd.survey.survey", lambda *_: SURVEY)
    monkeypatch.setattr("containerd.survey.targets", lambda *_: LOOK.images)
    monkeypatch.setattr(preinstalled, "CONFIG", str(tmp_path / "config.toml"))
    (tmp_path / "config.toml").write_bytes(b"")
    settings, engine = Settings(cache=tmp_path / "cache"), Engine()
    first = preinstalled.look(settings, engine, "image")
    assert preinstalled.look(settings, engine, "image") == first
    assert (first.survey, first.images, len(asked)) == (SURVEY, LOOK.images, 1)
    engine.id = "sha256:2"
    preinstalled.look(settings, engine, "image")
    assert len(asked) == 2


def test_a_node_image_without_a_sandbox_image_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preinstalled, "_probe", lambda *_: tempfile_node())
    monkeypatch.setattr("containerd.survey.survey", lambda *_: replace(SURVEY, sandbox=""))
    monkeypatch.setattr("containerd.survey.targets", lambda *_: {})
    monkeypatch.setattr(preinstalled, "CONFIG", __file__)
    with pytest.raises(InfrastructureError, match="INVOKE_KIND_PREINSTALLED=no"):
        preinstalled.look(Settings(cache=tmp_path), Engine(), "image")


def tempfile_node() -> Any:
    from contextlib import nullcontext

    return nullcontext(HostNode())


def test_steps_are_laid_out_as_files_and_units_as_links_that_enable_them() -> None:
    unit = UnitRuns(HOST, "x.service", ())
    group = Group(HOST, "g", [Folder(HOST, "/a"), File(HOST, "/a/b", b"c"), Link(HOST, "/a/d", "/a/b"), unit])
    assert list(enforce.laid_out([group, node_units.kubelet_runs(HOST)])) == [
        Folder(HOST, "/a"),
        File(HOST, "/a/b", b"c"),
        Link(HOST, "/a/d", "/a/b"),
        Link(HOST, "/etc/systemd/system/multi-user.target.wants/x.service", "/etc/systemd/system/x.service"),
    ]


def test_the_archive_has_the_modes_and_is_roots(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF")
    parts: list[Folder | File | Link] = [
        Folder(HOST, "/a", 0o700),
        File(HOST, "/a/b", b"c", 0o600),
        File(HOST, "/a/p", program, 0o755),
        Link(HOST, "/a/l", "/a/b"),
    ]
    with tarfile.open(fileobj=io.BytesIO(preinstalled.archive(parts))) as tar:
        found = {each.name: (each.type, each.mode, each.uid, each.linkname) for each in tar}
        content = {each.name: tar.extractfile(each).read() for each in tar if each.isfile()}  # type: ignore[union-attr]
    assert found["a"] == (tarfile.DIRTYPE, 0o700, 0, "")
    assert found["a/b"] == (tarfile.REGTYPE, 0o600, 0, "")
    assert found["a/l"][3] == "/a/b"
    assert content == {"a/b": b"c", "a/p": b"\x7fELF"}


@pytest.mark.parametrize(
    ("config", "marked", "code", "laid_out"),
    [
        (b"as in the image", False, 0, True),
        (b"ours already", False, 0, True),
        (b"as in the image", True, 0, False),
        (b"changed at the start of the node", False, 1, False),
    ],
)
def test_enforcement_is_laid_out_once_and_only_over_what_the_image_has(
    tmp_path: Path, config: bytes, marked: bool, code: int, laid_out: bool
) -> None:
    (tmp_path / "config.toml").write_bytes(config)
    (tmp_path / "root.tar").write_bytes(preinstalled.archive([File(HOST, f"{tmp_path}/laid-out", b"")]))
    marker = tmp_path / "marker"
    if marked:
        marker.touch()
    values: Mapping[str, str] = {
        "config": str(tmp_path / "config.toml"),
        "marker": str(marker),
        "before": File(HOST, "", b"as in the image").digest(),
        "after": File(HOST, "", b"ours already").digest(),
        "namespace": "k8s.io",
        "sandbox": SANDBOX,
        "tagged": "registry.example/pause:3",
    }
    script = tmp_path / "install.sh"
    script.write_bytes(render(TEMPLATES / "install.sh.j2", **values).replace(b"/kind/countersign", bytes(tmp_path)))
    ended = subprocess.run(["sh", script, "lay-out"], capture_output=True, text=True, check=False)
    assert (ended.returncode, (tmp_path / "laid-out").exists()) == (code, laid_out), ended.stderr
    assert marker.exists() is (code == 0)
    assert ("INVOKE_KIND_PREINSTALLED=no" in ended.stderr) is (code == 1)


def test_containerd_does_not_start_before_enforcement_is_laid_out_but_outlives_the_gate() -> None:
    lines = (TEMPLATES / "containerd.conf").read_text().splitlines()
    assert f"Requires={preinstalled.UNIT}" in lines
    assert [line for line in lines if line.startswith("Requires")] == [f"Requires={preinstalled.UNIT}"]
    assert f"After={preinstalled.UNIT} countersign-gate.service" in lines


def test_what_nodes_mount_is_roots_alone_and_has_the_gates_unit(tmp_path: Path) -> None:
    gate = f"{node_units.SYSTEMD}/countersign-gate.service"
    parts = [
        File(HOST, CONFIG, b"version = 3\n"),
        File(HOST, gate, b"unit"),
        File(HOST, f"{gate}.d/x.conf", b"drop-in"),
    ]
    home = tmp_path / "preinstall"
    preinstalled._write(home, parts, LOOK)
    assert home.stat().st_mode & 0o777 == 0o700
    assert {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()} == {
        "parts/root.tar",
        "parts/install.sh",
        "units/countersign-preinstall.service",
        "units/countersign-gate.service",
        "units/countersign-gate.service.d/x.conf",
        "units/containerd.service.d/countersign.conf",
    }
    script = (home / "parts" / "install.sh").read_text()
    assert MARKER in script
    assert f"tag registry.example/pause:3 {SANDBOX}" in script
