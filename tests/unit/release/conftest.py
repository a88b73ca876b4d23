"""A small project in a git repository of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

WHOLE = """\
apiVersion: countersign.release/v1
name: app
source: https://git.example/acme/app
registry: registry.example/acme
version: pyproject.toml
changelog: CHANGELOG.md
programs:
  - {name: app, variable: main.release}
images:
  - {name: app, programs: [app]}
sign:
  formats: [attachment, bundle]
  key: release.pub
"""


def git(folder: Path, *words: str) -> str:
    """Run git, as nobody in particular."""
    who = ["-c", "user.name=A", "-c", "user.email=a@acme.example", "-c", "init.defaultBranch=main"]
    return subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The folder of a project that can be released as 1.2.3."""
    folder = tmp_path / "app"
    folder.mkdir()
    (folder / "release.yaml").write_text(WHOLE)
    (folder / "go.mod").write_text("module acme.example/app\n\ngo 1.27\n")
    (folder / "main.go").write_text('package main\n\nvar release = ""\n\nfunc main() { println(release) }\n')
    (folder / "pyproject.toml").write_text('[project]\nname = "app"\nversion = "1.2.3"\n')
    (folder / "CHANGELOG.md").write_text("# Changes\n## Unreleased\n- later\n## 1.2.3\n- a thing\n## 1.2.2\n- old\n")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "begin")
    return folder


@pytest.fixture
def edited(project: Path) -> Callable[[str, str], Path]:
    """Return what replaces a text in the project's release.yaml, and gives its path."""

    def edit(old: str, new: str) -> Path:
        assert old in WHOLE
        path = project / "release.yaml"
        path.write_text(WHOLE.replace(old, new))
        return path

    return edit
