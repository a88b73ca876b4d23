"""A toolchain of stand-ins: recipes of our own, and a ``go`` that writes files and notes its calls."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from countersign.console.config import Settings
from countersign.console.tooling import ToolSettings
from countersign.tools.recipes import read_recipes
from tests.fake_registry import serving
from tests.unit.tools.published import GATE, HOOK, SIGSTORE, Published, commit, git, says

RECIPES = Path(__file__).parent / "recipes.toml"
GO = """#!/bin/sh
case "$1" in
version) echo "go version go1.27.3 linux/amd64"; exit ;;
esac
echo "$* | GOPROXY=${GOPROXY:-} GOARCH=${GOARCH:-} CGO_ENABLED=$CGO_ENABLED CC=${CC:-}" >>"$CALLS"
for line in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18; do echo "compiling $line" >&2; done
sleep "${SLOW:-0}"
out=$GOBIN
before=
for word; do
    [ "$before" != -o ] || out=$word
    before=$word
    case "$word" in
    *@* | ./*) package=${word%@*} && echo "${GOARCH:-native}" >"$out/${package##*/}" ;;
    esac
done
[ -z "${BROKEN:-}" ] || { echo "undefined: it all" >&2; exit 2; }
"""


@dataclasses.dataclass(frozen=True)
class Bench:
    """The stand-ins' folder, and settings whose cache lies in it."""

    folder: Path
    settings: Settings

    def calls(self) -> list[str]:
        """Return what ``go`` was told to build, call by call."""
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def program(self, name: str, text: str) -> Path:
        """Put a program on PATH."""
        path = self.folder / "bin" / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def left(self) -> list[str]:
        """Return what the cache holds beside locks, logs and what compilers keep."""
        shelves = ("thing", "demo", "wheel", "gate")
        return sorted(
            str(path.relative_to(self.settings.cache))
            for shelf in shelves
            for path in (self.settings.cache / shelf).glob("*")
            if path.name != ".lock"
        )


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Stand-ins alone on PATH, recipes of their own, and an empty cache."""
    (tmp_path / "bin").mkdir()
    for name in ("sh", "sleep", "ls"):
        (tmp_path / "bin" / name).symlink_to(shutil.which(name) or name)
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "main.go").write_text("package main")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setattr("countersign.tools.recipes.ROOT", tmp_path)
    monkeypatch.setattr("countersign.tools.build.ROOT", tmp_path)
    monkeypatch.setattr("countersign.tools.released.ROOT", tmp_path)
    known = read_recipes(RECIPES)
    monkeypatch.setattr("countersign.tools.recipes.recipes", lambda: known)
    bench = Bench(tmp_path, dataclasses.replace(Settings(), state=tmp_path / "state", cache=tmp_path / "cache"))
    bench.program("go", GO)
    return bench


@pytest.fixture
def published(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Iterator[Published]:
    root = bench.folder / "trusted_root.json"
    root.write_text(json.dumps(SIGSTORE.trusted_root()))
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    with serving() as server:
        tools = ToolSettings("1.2.3", f"http://{server.netloc}/v{{version}}", root)
        files = {GATE: says("app-gate 1.2.3"), HOOK: b"the hook"}
        release = Published(server, files, dataclasses.replace(bench.settings, tools=tools))
        release.sign()
        server.faults.append(release.answer)
        yield release


@pytest.fixture
def at_the_tag(bench: Bench, published: Published, monkeypatch: pytest.MonkeyPatch) -> Published:
    """A checkout that is exactly at the tag v1.2.3, and settings that ask for no release."""
    (bench.folder / "bin" / "git").symlink_to(shutil.which("git", path="/usr/local/bin:/usr/bin:/bin") or "git")
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, "/dev/null")
    (bench.folder / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    git(bench, "init", "--quiet")
    git(bench, "add", "ours", "pyproject.toml")
    commit(bench)
    git(bench, "tag", "v1.2.3")
    published.settings = published.with_tools(gate_release="")
    return published
