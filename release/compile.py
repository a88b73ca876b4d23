"""Go programs that come out the same anywhere: from a commit's own files, with nothing of this machine in them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from countersign.console.config import Settings
from countersign.console.errors import InfrastructureError, MissingError
from countersign.tools.build import cause_in
from countersign.tools.recipes import recipes
from countersign.tools.resolver import tool
from countersign.tools.toolchain import go_environment
from release.model import Program

_KEPT = (
    *("PATH", "HOME", "TMPDIR", "GOCACHE", "GOMODCACHE", "GOPATH", "GOTMPDIR"),
    *("GOPROXY", "GONOPROXY", "GOPRIVATE", "GOSUMDB", "GONOSUMDB", "GOINSECURE"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "NETRC"),
)
"""What of the environment says where modules come from and where caches lie; all else could change what is built."""
_FIXED = {
    "GOENV": "off", "GOTOOLCHAIN": "local", "GOWORK": "off", "CGO_ENABLED": "0", "GOOS": "linux", "GOEXPERIMENT": "",
    "GOFIPS140": "off", "GODEBUG": "", "GOAMD64": "v1", "GOARM64": "v8.0", "LC_ALL": "C", "TZ": "UTC",
}  # fmt: skip
FLAGS = ("-trimpath", "-buildvcs=false", "-mod=readonly")


@dataclass(frozen=True)
class Toolchain:
    """The Go that a release is built with.

    Attributes:
        program: ``go``.
        version: such as 1.27.3; never another one, since the same source comes out otherwise.
        environment: what it runs with.
    """

    program: Path
    version: str
    environment: Mapping[str, str]


def toolchain(settings: Settings) -> Toolchain:
    """Return the pinned Go.

    Raises:
        MissingError: another one stands on PATH.
    """
    wanted = recipes()["go"].version
    program = tool("go", settings)
    ours = go_environment(settings.cache, settings.offline)
    environment = {key: value for key, value in ours.items() if key in _KEPT} | _FIXED
    if "-modcacherw" in ours["GOFLAGS"]:
        environment["GOFLAGS"] = "-modcacherw"
    asked = [str(program), "env", "GOVERSION"]
    found = subprocess.run(asked, env=environment, capture_output=True, text=True, check=False).stdout.strip()
    if found != f"go{wanted}":
        do = "take it off PATH: the pinned one is then brought from PyPI"
        raise MissingError(f"is {found or 'none'}", where=str(program), expected=f"go{wanted}", do=do)
    return Toolchain(program, wanted, environment)


def build(go: Toolchain, source: Path, program: Program, platform: str, version: str, into: Path) -> None:
    """Build a program.

    Args:
        go: with what.
        source: the project's files, of one commit.
        program: what.
        platform: for what (``linux/arm64``).
        version: what the program says of itself.
        into: the file to write.

    Raises:
        InfrastructureError: it does not build; the output is in a log beside ``into``'s folder.
    """
    link = "-s -w -buildid=" + (f" -X {program.variable}={version}" if program.variable else "")
    flags = [*FLAGS, f"-ldflags={link}", *([f"-tags={program.tags}"] if program.tags else [])]
    environment = {**go.environment, "GOARCH": platform.partition("/")[2]}
    log = into.with_name(f".{into.name}.log")
    with log.open("wb") as file:
        argv = [str(go.program), "build", *flags, "-o", str(into), program.package]
        where = source / program.folder
        ended = subprocess.run(argv, cwd=where, env=environment, stdout=file, stderr=file, check=False)
    if ended.returncode:
        cause = cause_in(log) or _last_line(log)
        raise InfrastructureError(f"{program.name} for {platform} does not build: {cause}", where=str(log))
    log.unlink()


def build_info(go: Toolchain, program: Path) -> Mapping[str, object]:
    """Return what a Go program says of its modules (``go version -m``, debug/buildinfo).

    Raises:
        InfrastructureError: it is not a Go program.
    """
    asked = [str(go.program), "version", "-m", "-json", str(program)]
    ended = subprocess.run(asked, env=dict(go.environment), capture_output=True, check=False)
    try:
        found = json.loads(ended.stdout)
    except ValueError:
        found = None
    if ended.returncode or not isinstance(found, dict):
        said = ended.stderr.decode(errors="replace").strip()
        raise InfrastructureError(f"has no build information: {said}", where=program.name, expected="a Go program")
    return found


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "no output")
