"""Signing of one image for one platform, by countersign and by cosign, in rounds."""

from __future__ import annotations

import platform
import random
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from countersign.console import output
from countersign.console.config import ROOT, Settings
from countersign.console.errors import InfrastructureError
from countersign.keys import files as keyfiles
from countersign.keys.pair import generate, load_private
from countersign.nodes import service
from countersign.nodes.host import HOST
from countersign.nodes.service import Service
from countersign.oci.reference import parse
from countersign.oci.registry import Registry
from countersign.tools.images import demo_layout
from countersign.tools.resolver import install
from lab.bench import gauges, goals, show
from lab.bench.images import TAG, push_marked
from signing import sign, stored
from signing.formats import Format

COMMAND = "countersign: ./inv signing.sign, both formats"
IN_PROCESS = "countersign: the same within a process that runs"
BUNDLE = "cosign sign: bundle"
ATTACHMENT = "cosign sign: attachment (deprecated)"
BOTH = "cosign sign, twice: both formats"
WAYS: Mapping[str, tuple[Format, ...]] = {
    COMMAND: ("attachment", "bundle"),
    IN_PROCESS: ("attachment", "bundle"),
    BUNDLE: ("bundle",),
    ATTACHMENT: ("attachment",),
}
"""Each way, and the formats that must be there after it."""
WITHOUT_SERVICES = ("--yes", "--use-signing-config=false", "--tlog-upload=false")
OLD_FORMAT = "--new-bundle-format=false"


@dataclass(frozen=True)
class Bench:
    """What all ways share.

    Attributes:
        settings: the user's.
        key: the private key's file.
        password: what opens it.
        registry: a client of the registry.
        server: host and port of it.
        cosign: the program.
    """

    settings: Settings
    key: Path
    password: str
    registry: Registry
    server: str
    cosign: Path

    def run(self, *argv: str | Path) -> float:
        """Run a command that signs, and return its seconds."""
        env = {"COSIGN_PASSWORD": self.password}
        return HOST.run([str(part) for part in argv], env=env).seconds


def measure_signing(settings: Settings, rounds: int) -> dict[str, Any]:
    """Sign a new image in every way, once a round, and return the document.

    Raises:
        InfrastructureError: something failed, or a signature is missing afterwards.
    """
    machine = gauges.machine()
    programs = install(("registry", "cosign", "demo"), settings)
    ways: dict[str, list[float]] = {title: [] for title in WAYS}
    with place(settings, programs) as bench, output.progress(f"{rounds} rounds"):
        for turn in range(-1, rounds):  # the first is not counted: caches of files fill
            for title in random.Random(turn).sample(tuple(WAYS), len(WAYS)):  # noqa: S311 - an order is not a secret
                seconds = _sign(bench, title, f"{turn + 1}-{tuple(WAYS).index(title)}")
                if turn >= 0:
                    ways[title].append(seconds)
    ways[BOTH] = [one + other for one, other in zip(ways[BUNDLE], ways[ATTACHMENT], strict=True)]
    version = HOST.run([str(programs["cosign"]), "version"]).text
    machine |= {"loadAfter": gauges.load(), "programs": f"Python {platform.python_version()}, {_cosign(version)}"}
    return show.sign_document(ways, goals.of_signing(ways[COMMAND], ways[BOTH]), machine)


def _sign(bench: Bench, title: str, mark: str) -> float:
    """Push a new image, sign it in one way, and return the seconds of the signing."""
    name = f"{bench.server}/bench/{mark}"
    push_marked(bench.registry, name, demo_layout(bench.settings), mark)
    digest = sign.targets(bench.registry, parse(f"{name}:{TAG}"))[1].digest
    image = f"{name}@{digest}"
    cosign = (bench.cosign, "sign", "--key", bench.key, *WITHOUT_SERVICES)
    by: dict[str, Callable[[], float]] = {
        COMMAND: lambda: bench.run(ROOT / "inv", "signing.sign", "--image", image, "--key", bench.key),
        IN_PROCESS: lambda: _in_process(bench, image),
        BUNDLE: lambda: bench.run(*cosign, image),
        ATTACHMENT: lambda: bench.run(*cosign, OLD_FORMAT, image),
    }
    seconds = by[title]()
    for wanted in WAYS[title]:
        if len(stored.listed(bench.registry, name, digest, wanted)) != 1:
            raise InfrastructureError(f"left no {wanted} on {image}", where=title, expected="one")
    return seconds


def _in_process(bench: Bench, image: str) -> float:
    """Open the key, resolve, and sign; return the seconds."""
    begin = time.perf_counter()
    key, ref = load_private(bench.key, bench.password.encode()), parse(image)
    for target in sign.targets(bench.registry, ref):
        sign.sign(bench.registry, ref.name, target, key)
    return time.perf_counter() - begin


@contextmanager
def place(settings: Settings, programs: Mapping[str, Path]) -> Iterator[Bench]:
    """Start a registry with the referrers API below ``<state>/bench-sign``, and take it away again."""
    folder = settings.state / "bench-sign"
    service.stop(folder, "registry")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        server = f"127.0.0.1:{free.getsockname()[1]}"
    argv = (str(programs["registry"]), "--address", server, "--dir", str(folder / "data"))
    password = secrets.token_urlsafe(24)
    private, _ = keyfiles.write(folder / "cosign", generate(), password.encode())
    try:
        service.start(Service("registry", argv, str(folder), str(folder / "log"), env={}, ready=f"tcp:{server}"))
        yield Bench(settings, private, password, Registry(), server, programs["cosign"])
    finally:
        service.stop(folder, "registry")
        shutil.rmtree(folder, ignore_errors=True)


def _cosign(text: str) -> str:
    """Return ``cosign v3…`` of what ``cosign version`` prints."""
    lines = (line.partition(":") for line in text.splitlines())
    return next((f"cosign {value.strip()}" for key, _, value in lines if key == "GitVersion"), "cosign")
