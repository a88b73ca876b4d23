import re
import subprocess
import sys
from pathlib import Path

import pytest

from countersign.console.config import ROOT
from countersign.console.errors import UsageError
from countersign.tools import taking
from countersign.tools.recipes import VERSIONS, lookup, parse_version, read_recipes, recipes, source_files
from release import made
from release.load import load as load_project


def write(path: Path, old: str, new: str) -> Path:
    """Write versions.toml with one change."""
    text = VERSIONS.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return path


def test_every_tool_that_the_rooms_ask_for_is_there() -> None:
    wanted = {
        *("go", "containerd", "containerd-shim-runc-v2", "ctr", "runc", "cni-loopback", "registry"),
        *(
            "registry-fallback",
            "cosign",
            "countersign-gate",
            "countersign-hook",
            "countersign-library",
            "demo",
            "pause",
        ),
    }
    assert wanted <= {tool.name for recipe in recipes().values() for tool in recipe.tools}


def test_released_programs_are_looked_for_where_release_yaml_puts_them() -> None:
    project = load_project(ROOT / "release.yaml")
    gate = recipes()["gate"]
    assert gate.released
    assert project.identity
    assert gate.released.issuer == project.identity.issuer
    assert gate.released.subject.replace("{version}", "*") == project.identity.subject
    assert gate.released.url == f"{project.source}/releases/download/v{{version}}"
    assert {tool.name for tool in gate.tools} == {program.name for program in project.programs}
    assert project.program(gate.released.tells).variable
    assert taking.SUMS == made.SUMS
    assert taking.BUNDLE == made.SUMS + made.BUNDLE
    assert set(project.platforms) == {"linux/amd64", "linux/arm64"}


def test_an_unknown_tool_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(UsageError, match=r"^podman: no such tool; see ./inv tools.list"):
        lookup("podman")
    with pytest.raises(UsageError, match=r"^cosgn: no such tool; did you mean cosign\?"):
        lookup("cosgn")


def test_a_change_of_the_recipe_changes_its_key(tmp_path: Path) -> None:
    pinned = recipes()["runc"].version
    changed = read_recipes(write(tmp_path / "v.toml", f'version = "{pinned}"', 'version = "9.9.9"'))
    assert changed["runc"].key() != recipes()["runc"].key()
    assert changed["runc"].key().startswith("9.9.9-")
    assert changed["containerd"].key() == recipes()["containerd"].key()


def test_what_is_good_on_path_is_no_part_of_the_key(tmp_path: Path) -> None:
    changed = read_recipes(write(tmp_path / "v.toml", 'from = "1.3.3"', 'from = "1.2.0"'))
    assert changed["runc"].key() == recipes()["runc"].key()


def test_a_change_of_our_source_changes_its_key_and_that_of_its_tests_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("countersign.tools.recipes.ROOT", tmp_path)
    pause = recipes()["pause"]
    folder = tmp_path / pause.folder
    folder.mkdir(parents=True)
    (folder / "main.go").write_text("package main")
    before = pause.key()
    (folder / "main_test.go").write_text("package main")
    (folder / "README.md").write_text("about")
    (folder / "testdata").mkdir()
    (folder / "testdata" / "in.json").write_text("{}")
    assert pause.key() == before
    (folder / "list.json").write_text("embedded, perhaps")
    assert pause.key() != before


def test_source_files_come_in_one_order() -> None:
    files = list(source_files(ROOT / "gate"))
    assert files == sorted(files)
    assert ROOT / "gate" / "go.sum" in files


def test_versions_compare_as_numbers() -> None:
    assert parse_version("1.10.0") > parse_version("1.9.1") > parse_version("1")


@pytest.mark.parametrize(("module", "recipe"), [("github.com/containerd/containerd/v2", "containerd")])
def test_the_gate_is_built_on_the_version_that_is_run(module: str, recipe: str) -> None:
    found = re.search(rf"^\s*{re.escape(module)} v(\S+)", (ROOT / "gate" / "go.mod").read_text(), re.MULTILINE)
    assert found
    assert found[1] == recipes()[recipe].version


def test_our_go_code_needs_no_newer_go_than_the_pinned_and_the_accepted_one() -> None:
    accepted = lookup("go")[1].path
    assert accepted
    assert accepted.at_least <= parse_version(recipes()["go"].version) < accepted.below
    for recipe in recipes().values():
        if recipe.folder:
            found = re.search(r"^go (\S+)$", (ROOT / recipe.folder / "go.mod").read_text(), re.MULTILINE)
            assert found, recipe.folder
            assert parse_version(found[1]) <= accepted.at_least, recipe.folder


def test_each_pinned_version_would_do_on_path_too() -> None:
    for recipe in recipes().values():
        for tool in recipe.tools:
            if tool.path:
                assert tool.path.at_least <= parse_version(recipe.version) < tool.path.below, tool.name


def test_what_names_a_version_names_the_pinned_one() -> None:
    """Prose, tasks and CI; decisions and measurements speak of their own time."""
    pins = {recipe.name: recipe.version for recipe in recipes().values() if recipe.version}
    named = re.compile(rf"\b({'|'.join(pins)})[ @]v?(\d+\.\d+\.\d+)\b")
    files = [path for suffix in ("py", "md", "yml", "yaml", "j2") for path in ROOT.glob(f"[!.]*/**/*.{suffix}")]
    wrong = [
        (str(path), found.group())
        for path in [*files, *ROOT.glob("*.md")]
        if "adr" not in path.parts and "tests" not in path.parts and path.name != "benchmarks.md"
        for found in named.finditer(path.read_text())
        if pins[found[1]] != found[2]
    ]
    assert wrong == []


def test_the_exported_lock_is_that_of_uv() -> None:
    uv = Path(sys.executable).with_name("uv")
    options = ["--offline", "--frozen", "--all-groups", "--no-emit-project", "--no-header", "--quiet"]
    exported = subprocess.run([uv, "export", *options], cwd=ROOT, capture_output=True, text=True, check=True)
    assert exported.stdout == (ROOT / "requirements.lock").read_text()
    locked = subprocess.run([uv, "lock", "--check", "--offline"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert locked.returncode == 0, f"pyproject.toml and uv.lock differ: {locked.stderr}"
