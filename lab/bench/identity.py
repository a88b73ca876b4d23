"""Signing of one image without a key, by countersign and by cosign, with one private Sigstore, in rounds."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from countersign.console import output
from countersign.console.config import ROOT, Settings
from countersign.console.steps import run_steps
from countersign.nodes.host import HOST
from countersign.tools.resolver import install
from lab.bench import gauges, show, stats
from lab.bench.show import SIGN_COLUMNS as COLUMNS
from lab.bench.show import sign_rows as rows
from lab.bench.sign import Bench, in_rounds, place
from signing.stack import place as stacks
from signing.stack import services, token
from signing.stack.place import Stack
from signing.stored import Format

__all__ = ["COLUMNS", "measure", "rows"]
COMMAND = "countersign: ./inv signing.sign --identity, both formats"
BUNDLE = "cosign sign: bundle (Rekor v2, timestamp)"
ATTACHMENT = "cosign sign: attachment (deprecated; Rekor v1)"
BOTH = "cosign sign, twice: both formats"
WAYS: Mapping[str, tuple[Format, ...]] = {
    COMMAND: ("attachment", "bundle"),
    BUNDLE: ("bundle",),
    ATTACHMENT: ("attachment",),
}
"""Each way, and the formats that must be there after it."""
SUBJECT = "bench@acme.example"


def measure(settings: Settings, rounds: int) -> dict[str, Any]:
    """Sign a new image in every way, once a round, and return the document.

    Raises:
        InfrastructureError: something failed, or a signature is missing afterwards.
    """
    machine = gauges.machine()
    programs = install(("registry", "cosign", "demo", *services.TOOLS), settings)
    with place(settings, programs) as bench, _running(settings, programs) as stack, output.progress(f"{rounds} rounds"):
        ways = in_rounds(bench, WAYS, rounds, lambda image: _by(bench, stack, image))
    ways[BOTH] = [one + other for one, other in zip(ways[BUNDLE], ways[ATTACHMENT], strict=True)]
    machine |= {"loadAfter": gauges.load(), "programs": f"Python {platform.python_version()}, cosign"}
    ratio = stats.summary(ways[COMMAND]).median / stats.summary(ways[BOTH]).median
    output.say(f"both formats, process start included, of two cosign sign, medians: {ratio:.2f}")
    return show.sign_document(ways, [], machine) | {"ratio": ratio}


def _by(bench: Bench, stack: Stack, image: str) -> Mapping[str, Callable[[], float]]:
    identity = stack.folder / "token"
    identity.touch(0o600)
    identity.write_text(token.mint(stack, SUBJECT), encoding="utf-8")
    trusted = ("--trusted-root", stack.trusted_root)
    cosign = (bench.cosign, "sign", "--yes", "--identity-token", identity, *trusted)
    old = ("--new-bundle-format=false", "--use-signing-config=false")
    urls = ("--fulcio-url", stack.url("fulcio"), "--rekor-url", stack.url("rekor-v1"))
    env = {"INVOKE_SIGNING_TRUST_CONFIG": str(stack.trust_config)}
    return {
        COMMAND: lambda: _timed([ROOT / "inv", "signing.sign", f"--identity={identity}", "--image", image], env),
        BUNDLE: lambda: _timed([*cosign, "--signing-config", stack.signing_config, image]),
        ATTACHMENT: lambda: _timed([*cosign, *old, *urls, image]),
    }


def _timed(argv: list[str | Path], env: Mapping[str, str] | None = None) -> float:
    """Run a command that signs, and return its seconds."""
    return HOST.run([str(part) for part in argv], env=env).seconds


@contextmanager
def _running(settings: Settings, programs: Mapping[str, Path]) -> Iterator[Stack]:
    """Start a private Sigstore below ``<state>/bench-identity``, and take it away again."""
    own = replace(settings, state=settings.state / "bench-identity")
    services.stop(stacks.find(own))
    shutil.rmtree(own.state, ignore_errors=True)
    stack = stacks.find(own)
    try:
        run_steps(services.steps(stack, programs))
        yield stack
    finally:
        services.stop(stack)
        shutil.rmtree(own.state, ignore_errors=True)
