"""Workflows, ours and that which release.init writes, as actionlint and zizmor judge them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from countersign.console.config import ROOT
from countersign.tools.resolver import tool
from release.init import write
from tests.release.conftest import HERE, Lab, git

LINTERS = {
    "actionlint": ("actionlint", "-no-color", "-shellcheck=", "-pyflakes="),
    "zizmor": ("zizmor", "--offline", "--no-progress", "--color=never"),
}
FLAWS = {  # what each has to see, put into a good workflow
    "actionlint": ("runs-on: ubuntu-24.04", "runs-on: ubuntu-${{ matrix.no-such }}", "property"),
    "zizmor": ('"${GITHUB_REF_NAME#v}"', "${{ github.ref_name }}", "template-injection"),
}


def lint(lab: Lab, linter: str, files: list[Path]) -> subprocess.CompletedProcess[str]:
    name, *options = LINTERS[linter]
    argv = [str(tool(name, lab.settings)), *options, *(str(each) for each in files)]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


@pytest.fixture
def written(lab: Lab, tmp_path: Path) -> Path:
    """The workflow that release.init writes for the small project, in a repository."""
    for name in ("go.mod", "cmd/app/main.go"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((HERE / "app" / name).read_bytes())
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    files, _ = write.plan(tmp_path / "release.yaml", "https://github.com/acme/app", "0" * 40, lab.settings)
    write.put(tmp_path, files, force=False, plan=False)
    return tmp_path / write.WORKFLOW


@pytest.mark.parametrize("linter", LINTERS)
def test_our_workflows_are_clean(lab: Lab, linter: str) -> None:
    said = lint(lab, linter, sorted((ROOT / ".github" / "workflows").glob("*.yml")))
    assert said.returncode == 0, said.stdout + said.stderr


@pytest.mark.parametrize("linter", LINTERS)
def test_the_workflow_of_another_project_is_clean_and_a_flaw_is_seen(lab: Lab, written: Path, linter: str) -> None:
    good = lint(lab, linter, [written])
    assert good.returncode == 0, good.stdout + good.stderr
    old, new, word = FLAWS[linter]
    written.write_text(written.read_text().replace(old, new))
    bad = lint(lab, linter, [written])
    assert bad.returncode != 0
    assert word in bad.stdout
