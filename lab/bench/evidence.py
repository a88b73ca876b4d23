"""What evidence of many images on a node costs: the gate's own code, with ten images and with 10,000, side by side."""

from __future__ import annotations

import re
import statistics
import subprocess
from collections.abc import Mapping
from typing import Any

from countersign.console import output
from countersign.console.config import ROOT, Settings
from countersign.console.errors import InfrastructureError
from lab.bench import gauges
from lab.bench.goals import Goal
from lab.bench.show import goal_values

FEW, MANY = 10, 10_000
LIMIT = 1.5
"""What many images may cost over few: these are microseconds and single writes, which vary by so much."""
COLUMNS = ("what", f"with {FEW} images, ms", f"with {MANY:,} images, ms", "ratio")
WHAT = {
    "warm": "what a remembered verdict reads",
    "cold": "a verdict from evidence",
    "store": "evidence of one more image",
    "open": "the gate starts: once",
}
_SECONDS = 900
_LINE = re.compile(r"^BenchmarkAmongImages/(\w+)/(\d+)\S*\s+\d+\s+(\d+(?:\.\d+)?) ns/op", re.MULTILINE)


def measure(settings: Settings, rounds: int) -> dict[str, Any]:
    """Run the gate's benchmark three times and return its document.

    Args:
        settings: the configuration; its Go toolchain is fetched when it is not there.
        rounds: how often each thing is done in each of the three.

    Raises:
        InfrastructureError: it failed, or measured nothing.
    """
    from countersign.tools.resolver import tool
    from countersign.tools.toolchain import go_environment

    machine = gauges.machine()
    argv = [str(tool("go", settings)), "test", "-tags=containers_image_openpgp", "./internal/judge", "-run=^$"]
    argv += ["-bench=AmongImages", f"-benchtime={rounds}x", "-count=3"]
    environment = go_environment(settings.cache, settings.offline)
    try:
        with output.progress(f"3 times {rounds} rounds"):
            done = subprocess.run(
                argv, cwd=ROOT / "gate", env=environment, capture_output=True, text=True, timeout=_SECONDS, check=False
            )
    except subprocess.TimeoutExpired as error:
        late = f"did not end within {_SECONDS} s"
        raise InfrastructureError(late, where="go test -bench", do="take fewer --rounds") from error
    if done.returncode:
        raise InfrastructureError(f"ended with {done.returncode}: {done.stdout[-500:]}", where="go test -bench")
    return document(done.stdout, rounds, machine | {"loadAfter": gauges.load(), "programs": ""})


def document(said: str, rounds: int, machine: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document of bench.evidence; times in milliseconds, medians of the runs.

    Raises:
        InfrastructureError: something was not measured.
    """
    samples: dict[tuple[str, int], list[float]] = {}
    for name, images, nanoseconds in _LINE.findall(said):
        samples.setdefault((name, int(images)), []).append(float(nanoseconds) / 1e6)
    missing = [f"{name}/{images}" for name in WHAT for images in (FEW, MANY) if (name, images) not in samples]
    if missing:
        raise InfrastructureError(f"measured no {', '.join(missing)}", where="go test -bench")
    found: list[dict[str, Any]] = []
    for name in WHAT:
        few, many = (statistics.median(samples[name, images]) for images in (FEW, MANY))
        runs = {str(images): samples[name, images] for images in (FEW, MANY)}
        found.append({"what": name, "few": few, "many": many, "ratio": many / few, "runs": runs})
    limited = [each for each in found if each["what"] != "open"]
    goals = [Goal(f"{WHAT[each['what']]}, many images over few", each["ratio"], LIMIT, "") for each in limited]
    return {
        "version": "countersign.bench-evidence/v1",
        "machine": dict(machine),
        "rounds": rounds,
        "measured": found,
        "goals": goal_values(goals),
    }


def rows(document: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the table of a document of bench.evidence, in the order of ``COLUMNS``."""
    return [
        (WHAT[each["what"]], f"{each['few']:.3f}", f"{each['many']:.3f}", f"{each['ratio']:.2f}")
        for each in document["measured"]
    ]
