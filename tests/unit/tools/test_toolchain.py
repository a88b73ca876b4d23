from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from countersign.tools.build import Workshop, build
from countersign.tools.recipes import recipes
from countersign.tools.toolchain import c_compiler, go_environment

if TYPE_CHECKING:
    from tests.unit.tools.conftest import Bench

SAYS_YES = "#!/bin/sh\nexit 0\n"
SAYS_NO = "#!/bin/sh\nexit 1\n"


def zig(name: str) -> Path:
    assert name == "zig"
    return Path("/cache with space/zig")


def test_settings_from_outside_do_not_bend_a_build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in {"GOFLAGS": "-mod=vendor", "GOOS": "windows", "GOARCH": "386", "CGO_ENABLED": "1"}.items():
        monkeypatch.setenv(name, value)
    environment = go_environment(tmp_path, offline=False)
    assert "-mod=vendor" not in environment["GOFLAGS"]
    assert (environment["CGO_ENABLED"], environment["GOTOOLCHAIN"], environment["GOWORK"]) == ("0", "local", "off")
    assert not {"GOOS", "GOARCH"} & set(environment)


def test_caches_of_the_user_are_used_where_there_are_some(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("GOMODCACHE", "GOPATH", "GOCACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    ours = go_environment(tmp_path / "cache", offline=False)
    assert (ours["GOMODCACHE"], ours["GOCACHE"]) == (str(tmp_path / "cache/go-mod"), str(tmp_path / "cache/go-build"))
    (tmp_path / "go" / "pkg" / "mod").mkdir(parents=True)
    (tmp_path / ".cache" / "go-build").mkdir(parents=True)
    assert not {"GOMODCACHE", "GOCACHE"} & set(go_environment(tmp_path / "cache", offline=False))


def test_a_compiler_with_libseccomp_makes_a_runc_with_seccomp(bench: "Bench") -> None:
    gcc = bench.program("gcc", SAYS_YES)
    bench.program("pkg-config", SAYS_YES)
    compiler = c_compiler(zig, bench.folder)
    assert (compiler.environment, compiler.tags, compiler.link) == ({"CC": str(gcc)}, "seccomp", "")


@pytest.mark.parametrize("pkg_config", [SAYS_NO, None])
def test_a_compiler_alone_makes_one_without(pkg_config: str | None, bench: "Bench") -> None:
    bench.program("gcc", SAYS_YES)
    if pkg_config:
        bench.program("pkg-config", pkg_config)
    assert c_compiler(zig, bench.folder).tags == ""


def test_without_a_compiler_zig_makes_a_static_one(bench: "Bench") -> None:
    compiler = c_compiler(zig, bench.folder)
    assert compiler.environment["CC"].startswith("'/cache with space/zig' cc -target ")
    assert "-static" in compiler.link
    (bench.folder / "into").mkdir()
    shop = Workshop(
        lambda name: zig(name) if name == "zig" else bench.folder / "bin" / "go",
        bench.folder,
        False,
        bench.folder / "log",
    )
    build(recipes()["runc"], bench.folder / "into", shop)
    (call,) = bench.calls()
    assert "-ldflags=-s -w -linkmode external -extldflags -static -tags=netgo osusergo" in call
    assert "CGO_ENABLED=1 CC='/cache with space/zig'" in call
