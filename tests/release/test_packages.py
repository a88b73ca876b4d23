"""countersign's own packages, as dpkg and rpm read them: the same files, the same scripts, nothing that they configure.

On a machine: tests/release/test_machine.py.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from countersign.console.config import ROOT
from release import flow

FILES = {
    "/usr/bin/countersign-gate": "-rwxr-xr-x",
    "/usr/bin/countersign-hook": "-rwxr-xr-x",
    "/usr/lib/systemd/system/countersign-gate.service": "-rw-r--r--",
    "/usr/share/doc/countersign-gate/copyright": "-rw-r--r--",
}
SCRIPTS = {name: (ROOT / f"release/package/{name}.sh").read_text() for name in ("after-install", "before-remove")}


def out(*words: str | Path) -> str:
    return subprocess.run([str(each) for each in words], check=True, capture_output=True, text=True).stdout


def package(own: flow.Work, ending: str) -> Path:
    (found,) = own.folder.files.glob(f"countersign-gate*{ending}")
    return found


@pytest.fixture
def rpm(own: flow.Work) -> Path:
    if shutil.which("rpm") is None:
        pytest.skip("there is no rpm: apt-get install rpm")
    return package(own, ".x86_64.rpm")


def test_the_deb_has_programs_unit_and_scripts_and_no_configuration(own: flow.Work, tmp_path: Path) -> None:
    deb = package(own, "_amd64.deb")
    listed = [line.split(maxsplit=5) for line in out("dpkg-deb", "-c", deb).splitlines()]
    assert {line[5].removeprefix("."): line[0] for line in listed if line[0][0] == "-"} == FILES
    assert {line[1] for line in listed} == {"root/root"}
    out("dpkg-deb", "--control", deb, tmp_path / "control")
    there = {path.name for path in (tmp_path / "control").iterdir()}
    assert there == {
        "control",
        "md5sums",
        "postinst",
        "prerm",
    }  # no conffiles: nothing that purge would have to ask for
    assert (tmp_path / "control/postinst").read_text() == SCRIPTS["after-install"]
    assert (tmp_path / "control/prerm").read_text() == SCRIPTS["before-remove"]


def test_the_rpm_is_the_same(own: flow.Work, rpm: Path) -> None:
    said = out(
        "rpm", "-qp", "--queryformat", "[%{FILEMODES:perms} %{FILEUSERNAME} %{FILEGROUPNAME} %{FILENAMES}\\n]", rpm
    )
    found = {line.split()[3]: line.split()[0] for line in said.splitlines()}
    assert found == FILES | {
        "/usr/share/doc/countersign-gate": "drwxr-xr-x"
    }  # rpm removes no folder that is not listed
    assert {tuple(line.split()[1:3]) for line in said.splitlines()} == {("root", "root")}
    assert out("rpm", "-qp", "--configfiles", rpm) == ""
    assert out("rpm", "-qp", "--queryformat", "%{POSTIN}", rpm).strip() == SCRIPTS["after-install"].strip()
    assert out("rpm", "-qp", "--queryformat", "%{PREUN}", rpm).strip() == SCRIPTS["before-remove"].strip()
    known = out("rpm", "-qp", "--queryformat", "%{NAME} %{VERSION} %{ARCH} %{LICENSE} %{POSTINPROG}", rpm)
    assert known == f"countersign-gate {own.version} x86_64 Apache-2.0 /bin/sh"
    required = [line.split()[0] for line in out("rpm", "-qp", "--requires", rpm).splitlines()]
    assert [each for each in required if not re.match(r"rpmlib\(|/bin/sh$", each)] == []


def test_rpm_installs_what_the_deb_holds_verifies_and_removes_it(own: flow.Work, rpm: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    there = ["--root", str(root), "--dbpath", "/var/lib/rpm"]
    out("rpm", *there, "--install", "--nodeps", "--noscripts", rpm)
    out("dpkg-deb", "-x", package(own, "_amd64.deb"), tmp_path / "deb")
    for name in FILES:
        assert (root / name[1:]).read_bytes() == (tmp_path / "deb" / name[1:]).read_bytes()
    assert out("rpm", *there, "--verify", "countersign-gate") == ""
    (root / "usr/bin/countersign-hook").write_text("another")
    changed = subprocess.run(
        ["rpm", *there, "--verify", "countersign-gate"], capture_output=True, text=True, check=False
    )
    assert "5" in changed.stdout.split()[0]
    assert changed.stdout.split()[-1] == "/usr/bin/countersign-hook"
    out("rpm", *there, "--erase", "--nodeps", "--noscripts", "countersign-gate")
    assert [path for path in root.rglob("*countersign*") if path.exists()] == []
