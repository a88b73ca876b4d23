"""The Docker Engine: the user's where one answers, else a private one that `kind.engine` starts."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from countersign.console.config import Settings
from countersign.console.errors import InfrastructureError, MissingError
from countersign.nodes import service
from countersign.nodes.host import HOST
from countersign.nodes.service import Service
from countersign.nodes.steps import File, Folder, Group, Running
from countersign.nodes.template import render

if TYPE_CHECKING:
    from docker import DockerClient

    from countersign.console.steps import Step

NAME = "dockerd"
ANSWER = 5
"""Seconds within which an engine has to answer a ping."""
CALL = 600
"""Seconds for one call; loading an image of a node is the longest."""
CAP_SYS_RESOURCE = 24
WRAPPER = Path(__file__).with_name("runc-without-sys-resource.py.j2")
START_IT = "start Docker, or a private engine with ./inv kind.engine"


@dataclass(frozen=True)
class Private:
    """Where the private engine keeps what; all of it lies below one folder.

    Attributes:
        root: ``<state>/kind/engine``.
    """

    root: Path

    @property
    def socket(self) -> Path:
        """The engine's socket; root's alone."""
        return self.root / "docker.sock"

    @property
    def run(self) -> Path:
        """The supervisor's folder."""
        return self.root / "run"

    @property
    def url(self) -> str:
        """The value of ``DOCKER_HOST`` that leads to it."""
        return f"unix://{self.socket}"


def private(settings: Settings) -> Private:
    """Return the private engine of a state folder, whether it runs or not."""
    return Private(settings.state.resolve() / "kind" / "engine")


def url(settings: Settings) -> str:
    """Return ``DOCKER_HOST`` for the engine to use: the user's, else the private one while it runs.

    Raises:
        MissingError: no engine answers.
    """
    ours = private(settings)
    named = settings.kind.engine or os.environ.get("DOCKER_HOST")
    tried = [named] if named else ["unix:///var/run/docker.sock", ours.url]
    failures = []
    for address in tried:
        failure = _ping(address)
        if not failure:
            return address
        failures.append(f"{address}: {failure}")
    raise MissingError(f"no Docker Engine answers ({'; '.join(failures)})", do=START_IT)


def docker_client(settings: Settings) -> DockerClient:
    """Return a client of the engine.

    Raises:
        MissingError: no engine answers.
    """
    return _client(url(settings), CALL)


def why_not(settings: Settings) -> str:
    """Return why there can be no cluster here, in one line; empty where a Docker Engine answers."""
    try:
        url(settings)
    except MissingError as error:
        return str(error)
    return ""


def steps(settings: Settings) -> list[Step]:
    """Return the steps that start a private engine.

    Raises:
        InfrastructureError: another engine answers; the user's own is the one to use.
        MissingError: we are not root, or dockerd is not installed.
    """
    ours = private(settings)
    with suppress(MissingError):
        found = url(settings)
        if found != ours.url:
            raise InfrastructureError(
                "a Docker Engine answers already", where=found, do="use it: nothing has to be started"
            )
    if os.geteuid() != 0:
        raise MissingError("a Docker Engine needs root", do="run it as root (sudo ./inv kind.engine)")
    daemon, runc = (_program(name) for name in ("dockerd", "runc"))
    wrapper = File(HOST, str(ours.root / "runc"), render(WRAPPER, python=sys.executable, runc=runc), 0o755)
    folders = [Folder(HOST, str(folder), 0o700) for folder in (ours.root, ours.run)]
    return [
        Group(HOST, f"files of a private Docker Engine ({ours.root})", [*folders, wrapper]),
        Running(_service(ours, daemon, wrapper)),
    ]


def stop(settings: Settings) -> bool:
    """Stop the private engine and return whether it ran; what it keeps stays."""
    ours = private(settings)
    running = service.state(ours.run, NAME).supervisor is not None
    if running:
        service.stop(ours.run, NAME)
    return running


def _service(ours: Private, daemon: str, wrapper: File) -> Service:
    options = {
        "host": ours.url,
        "group": "root",
        "data-root": ours.root / "data",
        "exec-root": ours.root / "exec",
        "pidfile": ours.root / "docker.pid",
    }
    argv = [daemon, *(f"--{name}={value}" for name, value in options.items())]
    if not has_sys_resource():
        argv += [f"--add-runtime=less={wrapper.path}", "--default-runtime=less"]
    return Service(
        name=NAME,
        argv=tuple(argv),
        run=str(ours.run),
        log=str(ours.root / "dockerd.log"),
        env={"PATH": os.environ.get("PATH", os.defpath), "HOME": str(ours.root)},
        ready="notify",
        inputs={wrapper.path: wrapper.digest()},
    )


def has_sys_resource() -> bool:
    """Return whether this machine can give containers CAP_SYS_RESOURCE (capabilities(7), CapBnd)."""
    line = HOST.run(["grep", "^CapBnd:", "/proc/self/status"]).text
    return bool(int(line.split()[1], 16) >> CAP_SYS_RESOURCE & 1)


def _program(name: str) -> str:
    found = shutil.which(name)
    if not found:
        raise MissingError(f"{name} is not installed", do="install Docker (on Debian: apt-get install docker.io)")
    return found


def _ping(address: str) -> str:
    """Return why an engine does not answer, or an empty text."""
    from docker.errors import DockerException

    if address.startswith("unix://") and not Path(address.removeprefix("unix://")).exists():
        return "there is no such socket"
    try:
        _client(address, ANSWER).ping()
    except (DockerException, OSError) as error:
        return " ".join(str(error).split())[:200]
    return ""


@cache
def _client(address: str, timeout: int) -> DockerClient:
    """Return the one client of this process for an engine; its connections end with the process."""
    from docker import DockerClient

    client = DockerClient(base_url=address, timeout=timeout)
    atexit.register(client.close)
    return client
