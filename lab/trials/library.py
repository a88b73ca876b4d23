"""What CRI-O's engine says of the matrix's images, asked as a library: where there is no CRI-O to run.

The program is ours (`gate/cmd/countersign-library`), the engine go.podman.io/image, as the gate links it.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

from countersign.console.config import Settings
from countersign.console.errors import CountersignError, InfrastructureError
from crio import render
from lab.trials import differences
from lab.trials.engines import LIBRARY, EngineRow, judge, rows, verdict
from lab.trials.image import TAG
from lab.trials.lab import SHORT, Lab
from lab.trials.model import load
from lab.trials.rows import Found, Outcome, Series

_SECONDS = 30
"""What the program itself gives one image."""


def series(settings: Settings, images: Callable[[], Lab], addresses: Mapping[str, str]) -> Series:
    """Return the library's verdicts as trials.

    Args:
        settings: the configuration; the program is built when it is not there.
        images: gives the built images, and the strict policy.
        addresses: registry name → the URL under which it is reached; HTTPS ones are not asked.
    """
    known = differences.load()

    def attempt(asked: Sequence[EngineRow]) -> Generator[Outcome, None, None]:
        found = verdicts(settings, images(), [row.image for row in asked], addresses)
        for row in asked:
            yield judge(row, found[row.image], known)

    everything = rows(LIBRARY, load())
    command = "./inv all.e2e --on host"
    return Series(LIBRARY, "crio", LIBRARY, everything, attempt, command, by_name=False, known=(known, "crio"))


def verdicts(settings: Settings, lab: Lab, images: Sequence[str], addresses: Mapping[str, str]) -> dict[str, Found]:
    """Return image of the matrix → the library's verdict; see `series`.

    Raises:
        CountersignError: the library came to no verdict about an image.
        InfrastructureError: the program failed.
    """
    from countersign.tools.resolver import tool

    references = {image: reference(lab, image) for image in images}
    with tempfile.TemporaryDirectory() as scratch:
        argv = [str(tool("countersign-library", settings)), *files(Path(scratch), settings, lab.strict, addresses)]
        said = judged_by([*argv, *references.values()], len(images))
    return {image: _verdict(said[name]) for image, name in references.items()}


def reference(lab: Lab, image: str) -> str:
    """Return an image by its tag, in the registry with the referrers API or under Docker Hub's name."""
    own = f"{lab.hosts['referrers']}/{image}"
    return f"{lab.built[own if own in lab.built else f'{SHORT}/{image}'][0]}:{TAG}"


def judged_by(argv: Sequence[str], images: int) -> dict[str, dict[str, Any]]:
    """Return image reference → the program's line about it.

    Raises:
        InfrastructureError: it failed, or said nothing of an image.
    """
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_SECONDS * images, check=False)
    except subprocess.TimeoutExpired:
        raise InfrastructureError("no verdicts in time", where=argv[0], do="see whether registries answer") from None
    if done.returncode:
        raise InfrastructureError(done.stderr.strip() or f"ended with {done.returncode}", where=argv[0])
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    if len(lines) != images:
        raise InfrastructureError(f"{len(lines)} verdicts", where=argv[0], expected=str(images))
    return {line["image"]: line for line in lines}


def _verdict(line: Mapping[str, Any]) -> Found:
    found = verdict(None if line["allow"] is True else str(line["message"]))
    if found is None:
        raise CountersignError(str(line["message"]), where=str(line["image"]), expected="a verdict")
    return found


def files(folder: Path, settings: Settings, policy: Path, addresses: Mapping[str, str]) -> list[str]:
    """Write what CRI-O would be given for a policy.yaml, and return the program's options; see `series`."""
    from countersign.policy import crio
    from countersign.policy.load import load

    loaded = load(policy)
    found = crio.render(loaded, settings)
    for name in ("registries.d", "certs.d"):
        (folder / name).mkdir(exist_ok=True)
    plain = {name: (url.partition("://")[2], True) for name, url in addresses.items() if url.startswith("http:")}
    known = {scope.partition("/")[0] for scope in loaded.scopes}  # one registry may be named in one file alone
    written = {
        "policy.json": found.policy,
        "registries.d/countersign.yaml": found.registries_d,
        "registries.d/locations.yaml": render.attachments_of({location for location, _ in plain.values()} - known),
        "registries.conf": render.registries_conf(plain),
        "auth.json": b"{}\n",
    }
    for name, content in written.items():
        (folder / name).write_bytes(content)
    return [
        *("--policy", str(folder / "policy.json")),
        *("--registries-d", str(folder / "registries.d")),
        *("--registries-conf", str(folder / "registries.conf")),
        *("--certs-dir", str(folder / "certs.d")),
        *("--auth", str(folder / "auth.json")),
    ]
