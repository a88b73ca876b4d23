"""Signing of one image for one platform, by countersign and by cosign, in rounds."""

from __future__ import annotations

import platform
import random
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from lab.bench.show import SIGN_COLUMNS as COLUMNS
from lab.bench.show import sign_rows as rows
from signing import sign, stored
from signing.stored import Format

__all__ = ["COLUMNS", "measure", "rows"]
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
        key: the private key's file.
        password: what opens it.
        registry: a client of the registry.
        server: host and port of it.
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


def measure(settings: Settings, rounds: int) -> dict[str, Any]:
    """Sign a new image in every way, once a round, and return the document.

    Raises:
        InfrastructureError: something failed, or a signature is missing afterwards.
    """
    machine = gauges.machine()
    programs = install(("registry", "cosign", "demo"), settings)
    with place(settings, programs) as bench, output.progress(f"{rounds} rounds"):
        ways = in_rounds(bench, WAYS, rounds, lambda image: _by(bench, image))
    ways[BOTH] = [one + other for one, other in zip(ways[BUNDLE], ways[ATTACHMENT], strict=True)]
    version = HOST.run([str(programs["cosign"]), "version"]).text
    machine |= {"loadAfter": gauges.load(), "programs": f"Python {platform.python_version()}, {_cosign(version)}"}
    return show.sign_document(ways, goals.of_signing(ways[COMMAND], ways[BOTH]), machine)


def in_rounds(
    bench: Bench,
    ways: Mapping[str, Sequence[Format]],
    rounds: int,
    by: Callable[[str], Mapping[str, Callable[[], float]]],
) -> dict[str, list[float]]:
    """Sign a new image in every way once a round, in another order each time; return the seconds of each way.

    Args:
        ways: each way, and the formats that must be there after it.
        rounds: how many; one more comes first, for caches of files fill.
        by: an image → each way to sign it.

    Raises:
        InfrastructureError: a signature is missing.
    """
    seconds: dict[str, list[float]] = {title: [] for title in ways}
    for turn in range(-1, rounds):
        for title in random.Random(turn).sample(tuple(ways), len(ways)):  # noqa: S311 - an order is not a secret
            mark = f"{turn + 1}-{tuple(ways).index(title)}"
            name = f"{bench.server}/bench/{mark}"
            push_marked(bench.registry, name, demo_layout(bench.settings), mark)
            digest = sign.targets(bench.registry, parse(f"{name}:{TAG}"))[1].digest
            image = f"{name}@{digest}"
            took = by(image)[title]()
            for wanted in ways[title]:
                if len(stored.listed(bench.registry, name, digest, wanted)) != 1:
                    raise InfrastructureError(f"left no {wanted} on {image}", where=title, expected="one")
            if turn >= 0:
                seconds[title].append(took)
    return seconds


def _by(bench: Bench, image: str) -> Mapping[str, Callable[[], float]]:
    cosign = (bench.cosign, "sign", "--key", bench.key, *WITHOUT_SERVICES)
    return {
        COMMAND: lambda: bench.run(ROOT / "inv", "signing.sign", "--image", image, "--key", bench.key),
        IN_PROCESS: lambda: _in_process(bench, image),
        BUNDLE: lambda: bench.run(*cosign, image),
        ATTACHMENT: lambda: bench.run(*cosign, OLD_FORMAT, image),
    }


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
