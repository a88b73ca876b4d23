"""What Go builds run with: an environment that the user's own settings cannot bend, and a C compiler."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from countersign.tools.recipes import FLAGS, Recipe

_UNSET = ("GOROOT", "GOOS", "GOARCH", "GOBIN", "GO111MODULE", "CC", "CGO_CFLAGS", "CGO_LDFLAGS")


@dataclass(frozen=True)
class Compiler:
    """How cgo compiles.

    Attributes:
        environment: ``CC`` and what it needs.
        tags: Go build tags that this compiler and its libraries allow.
        link: flags for Go's linker.
    """

    environment: dict[str, str] = field(default_factory=dict)
    tags: str = ""
    link: str = ""


def go_environment(cache: Path, offline: bool) -> dict[str, str]:
    """Return the environment of every Go build: no other toolchain, no cgo, no settings from outside.

    Proxy settings stay the user's. The module and build caches too where there are some;
    else they lie in our cache, writable, so that one ``rm -r`` removes them.
    """
    environment = {key: value for key, value in os.environ.items() if key not in _UNSET}
    environment |= {"GOTOOLCHAIN": "local", "GOWORK": "off", "GOFLAGS": "", "CGO_ENABLED": "0"}
    home = os.environ.get("HOME", "")
    if not ("GOMODCACHE" in environment or "GOPATH" in environment or Path(home, "go", "pkg", "mod").is_dir()):
        environment |= {"GOMODCACHE": str(cache / "go-mod"), "GOPATH": str(cache / "go-path"), "GOFLAGS": "-modcacherw"}
    if not ("GOCACHE" in environment or Path(home, ".cache", "go-build").is_dir()):
        environment["GOCACHE"] = str(cache / "go-build")
    environment["GOTMPDIR"] = str(scratch(cache))
    if offline:
        environment["GOPROXY"] = "off"
    return environment


def scratch(cache: Path) -> Path:
    """Return the folder for what a build throws away; /tmp may be memory, and too small."""
    folder = cache / "tmp"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def go_flags(recipe: Recipe, compiler: Compiler | None = None) -> list[str]:
    """Return the flags of ``go build`` and ``go install`` for a recipe."""
    tags = " ".join(filter(None, [recipe.tags, compiler.tags if compiler else ""]))
    variables = " ".join(f"-X {variable}" for variable in recipe.variables)
    link = " ".join(filter(None, [variables, compiler.link if compiler else ""]))
    flags = [f"{flag} {link}" if flag.startswith("-ldflags=") else flag for flag in FLAGS]
    return [flag.strip() for flag in flags] + ([f"-tags={tags}"] if tags else [])


def c_compiler(have: Callable[[str], Path], cache: Path) -> Compiler:
    """Return the machine's C compiler, with libseccomp if that is installed, else zig from PyPI.

    A runc without libseccomp refuses containers that ask for a seccomp profile: good for
    tests, not for nodes. The one made by zig is static.
    """
    gcc = shutil.which("gcc")
    if gcc and _has_libseccomp():
        return Compiler({"CC": gcc}, tags="seccomp")
    if gcc:
        return Compiler({"CC": gcc})
    zig = f"{shlex.quote(str(have('zig')))} cc -target {platform.machine()}-linux-musl"
    scratch = str(cache / "zig-cache")
    return Compiler(
        {"CC": zig, "ZIG_GLOBAL_CACHE_DIR": scratch, "ZIG_LOCAL_CACHE_DIR": scratch},
        tags="netgo osusergo",
        link="-linkmode external -extldflags -static",
    )


def _has_libseccomp() -> bool:
    """Return whether cgo can find libseccomp, which it looks for through pkg-config."""
    if not shutil.which("pkg-config"):
        return False
    return subprocess.run(["pkg-config", "--exists", "libseccomp"], check=False).returncode == 0
