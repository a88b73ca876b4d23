"""A commit comes out the same elsewhere: other folder, home, umask, time zone, settings of Go, and an empty GOCACHE."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from countersign.console import output
from countersign.console.config import ROOT, Settings
from release import build, flow, git
from release.load import load
from release.made import Folder, read_state
from tests.release.conftest import Lab

ELSEWHERE = {
    "TZ": "Pacific/Kiritimati",
    "LC_ALL": "C.UTF-8",
    "GOAMD64": "v3",
    "GOARM64": "v9.0",
    "GOFLAGS": "-ldflags=-w",
    "GOEXPERIMENT": "rangefunc",
    "GOFIPS140": "latest",
    "SOURCE_DATE_EPOCH": "1",
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "tar.umask",
    "GIT_CONFIG_VALUE_0": "0077",
}


def built_elsewhere(settings: Settings, source: Path, project: str, scratch: Path) -> dict[str, str]:
    """Clone a project, and build it there as somebody else; return file → SHA-256, with the images' digests."""
    clone = scratch / "a folder with another name"
    subprocess.run(["git", "clone", "-q", str(source), str(clone)], check=True)
    for path in clone.rglob("*"):
        if ".git" not in path.parts and not path.is_symlink():
            os.utime(path, (1, 1))
    home, cache = scratch / "home", scratch / "empty"
    home.mkdir()
    modules = {key: value for key in ("GOMODCACHE", "GOPATH") if (value := os.environ.get(key))}
    modules = modules or {"GOMODCACHE": _modules(settings)}
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "GOCACHE": str(cache),
        "INVOKE_STATE": str(scratch / "state"),
        "INVOKE_CACHE": str(settings.cache),
        **modules,
        **ELSEWHERE,
    }
    argv = [sys.executable, str(ROOT / "tasks.py"), "release.build", "--json", "--project", str(clone / project)]
    command = ["sh", "-c", 'umask 077; exec "$@"', "sh", *argv]
    ended = subprocess.run(command, cwd=scratch, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return digests(json.loads(ended.stdout))


def _modules(settings: Settings) -> str:
    ours = settings.cache / "go-mod"
    return str(ours if ours.is_dir() else Path.home() / "go" / "pkg" / "mod")


def digests(document: dict[str, object]) -> dict[str, str]:
    """Return name → digest of a release's document."""
    files = {each["name"]: each["sha256"] for each in document["files"]}  # type: ignore[attr-defined]
    return files | {each["name"]: each["digest"] for each in document["images"]}  # type: ignore[attr-defined]


def test_a_small_project_comes_out_the_same(lab: Lab, built: Folder, tmp_path: Path) -> None:
    state = read_state(built)
    assert state is not None
    found = built_elsewhere(lab.settings, lab.project.root, "release.yaml", tmp_path)
    assert found == digests(state.release.as_json())
    assert len(found) == 2 * 2 + 2 * 2 + 1 + 2 + 1  # programs, packages, source, other files, image


@pytest.mark.timeout(2400)  # the second build has an empty cache
def test_countersign_comes_out_the_same(lab: Lab, own: flow.Work, tmp_path: Path) -> None:
    here = read_state(own.folder)
    assert here is not None
    charted = {
        file.name for file in here.release.files if file.kind in ("chart", "manifest")
    }  # made after the build, by other tests
    kept = digests(here.release.as_json())
    found = built_elsewhere(lab.settings, ROOT, "release.yaml", tmp_path)
    assert found == {name: digest for name, digest in kept.items() if name in found}
    assert {*kept} - {*found} <= charted | {here.release.project}
    works_alone(own.folder.file(f"{here.release.title}.tar.gz"), tmp_path / "unpacked")


def works_alone(archive: Path, into: Path) -> None:
    """See that ``./inv`` works in the source archive: it makes its own environment, and lists the tasks."""
    with tarfile.open(archive) as opened:
        opened.extractall(into, filter="data")
    ended = subprocess.run([str(next(into.iterdir()) / "inv"), "--list"], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "release.verify" in ended.stdout


def test_a_change_that_is_not_committed_has_no_part_in_a_release(lab: Lab, built: Folder, tmp_path: Path) -> None:
    state = read_state(built)
    assert state is not None
    source = tmp_path / "source"
    shutil.copytree(lab.project.root, source)
    (source / "cmd" / "app" / "main.go").write_text("package main\n\nfunc main() { panic(1) }\n")
    folder = Folder(tmp_path / "made")
    folder.path.mkdir()
    project = load(source / "release.yaml")
    made = build.build(lab.settings, project, "1.2.3", git.head(source), folder, output.progress)
    assert digests(made.as_json()) == digests(state.release.as_json())


@pytest.mark.parametrize("name", ["app_1.2.3_amd64.deb", "app_1.2.3_arm64.deb"])
def test_a_package_has_its_files_as_they_are_installed(built: Folder, name: str) -> None:
    listed = subprocess.run(
        ["dpkg-deb", "-c", str(built.file(name))], capture_output=True, text=True, check=True
    ).stdout
    assert "-rwxr-xr-x root/root" in next(line for line in listed.splitlines() if line.endswith("./usr/bin/app"))
    command = ["dpkg-deb", "--fsys-tarfile", str(built.file(name))]
    tar = subprocess.run(command, capture_output=True, check=True).stdout
    unit = subprocess.run(
        ["tar", "xO", "./usr/lib/systemd/system/app.service"], input=tar, capture_output=True, check=True
    )
    assert unit.stdout == b"[Service]\nExecStart=/usr/bin/app\n"


def test_a_program_says_its_version(built: Folder) -> None:
    program = built.file("app-1.2.3-linux-amd64")
    assert subprocess.run([program], capture_output=True, text=True, check=True).stderr == "app 1.2.3\n"
