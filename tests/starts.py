"""Containers that are started over and over on a runtime under enforcement, for the tests that disturb its gate."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countersign.console import output
from countersign.console.config import ROOT, CheckSettings, Settings
from countersign.console.sources import load_settings
from countersign.cri.errors import CriError
from countersign.nodes import service
from lab.demo.registries import REFERRERS
from lab.trials.image import TAG

if TYPE_CHECKING:
    from countersign.enforcement.layout import Layout
    from countersign.nodes.service import State
    from countersign.runtimes.private import PrivateMachine
    from lab.trials.cri_place import CriPlace

SET_UP = {"containerd": "containerd.setup", "crio": "crio.configure"}
PATIENCE = 600.0

STARTS = int(os.environ.get("INVOKE_TESTS_STARTS") or CheckSettings().starts)
"""How many containers are started."""
NAMED_BY_THE_POLICY = ("pinned", "revoked_digest")
"""Images of the matrix whose digests its policy has."""


@dataclass(frozen=True)
class Enforced:
    """A runtime of this host under enforcement, whose store has images that were let in before.

    Attributes:
        settings: with a state folder of its own.
        place: the runtime, opened for trials.
    """

    settings: Settings
    place: CriPlace

    @property
    def layout(self) -> Layout:
        """Where gate and logs lie."""
        return self.place.at.layout

    def gate(self) -> State:
        """Return how the gate is."""
        return service.state(Path(self.layout.run), "gate")

    def attempt(self, image: str) -> tuple[str, str]:
        """Start a container and remove it.

        Args:
            image: of the matrix, by its name there.

        Returns:
            The container, or an empty text if none was created; and the code that it was refused with (the runtime's
            own words where it has none), or an empty text.
        """
        container, reference = "", named(image)
        try:
            container = self.place.create(self.place.image_id(reference), reference)
            self.place.start(container)
        except CriError as error:
            return container, self.place.code_of(error.message) or error.message
        finally:
            if container:
                self.place.remove(container)
        return container, ""

    def allowed(self) -> list[dict[str, Any]]:
        """Return all verdicts that let a container start, from the log and what was rotated out of it."""
        log = Path(self.layout.verdicts)
        lines = [line for file in log.parent.glob(f"{log.name}*") for line in file.read_text().splitlines()]
        return [each for each in map(json.loads, lines) if each["layer"] == "create" and each["allow"]]


@contextmanager
def enforced(images: Collection[str], runtime: str = "containerd") -> Iterator[Enforced]:
    """Set a runtime up with these images of the matrix in its store, refuse what is not signed, and clean up."""
    from countersign.oci.access import registry
    from countersign.oci.build import variant
    from countersign.tools.images import demo_layout
    from lab.trials import lab, model

    folder = Path(tempfile.mkdtemp(prefix="cs-"))  # short: sockets lie below it
    try:
        inv(folder, SET_UP[runtime])
        settings = replace(load_settings(), node="host", state=folder, room=runtime)
        there = [row for row in model.load() if row.registry == "referrers" and row.name != "short"]
        with opened(settings) as place:
            built = lab.build(
                folder / "cases",
                place.registries,
                registry(settings),
                lambda mark, target: variant(demo_layout(settings), mark, target),
                [row for row in there if row.image in {*images, *NAMED_BY_THE_POLICY}],
            )
            place.set_policy(built.lax)
            for image in images:
                place.pull(named(image))
            place.set_policy(built.strict)
            yield Enforced(settings, place)
    finally:
        inv(folder, f"{runtime}.clean")
        shutil.rmtree(folder)


def opened(settings: Settings) -> CriPlace:
    """Return the runtime that set-up made, for trials."""
    from lab.trials.containerd_place import ContainerdPlace
    from lab.trials.crio_place import CrioPlace

    kinds: dict[str, type[CriPlace]] = {"containerd": ContainerdPlace, "crio": CrioPlace}
    return kinds[settings.room](machine(settings), settings.policy)


def machine(settings: Settings) -> PrivateMachine:
    """Return the private runtime itself."""
    from containerd.instance import instance as containerd
    from crio.private import instance as crio
    from lab.demo.lab import with_demo

    if settings.room == "crio":
        return with_demo(settings, crio(settings.state))
    return with_demo(settings, containerd(settings.state))


def upgraded_under_starts(at: Enforced, upgrades: int, upgrade: Callable[[int], None]) -> None:
    """Upgrade the gate again and again while containers start: none is refused for it, and none starts unjudged.

    Args:
        at: with the images ``both`` and ``unsigned``.
        upgrades: how many there are, spread over `STARTS` starts.
        upgrade: brings the upgrade with this number about, to its end.
    """
    allowed: list[tuple[str, str]] = [at.attempt("both")]  # the pod and its network are there from here on
    refused: list[tuple[str, str]] = []
    restarts, gates, over = at.gate().restarts, {at.gate().child}, threading.Event()

    def start(image: str, attempts: list[tuple[str, str]]) -> None:
        while not over.is_set():
            attempts.append(at.attempt(image))

    with ThreadPoolExecutor() as pool:
        starting = [pool.submit(start, *each) for each in (("both", allowed), ("both", allowed), ("unsigned", refused))]
        try:
            for number in range(upgrades):
                _wait_for(allowed, number * STARTS // upgrades)
                upgrade(number)
                gates.add(at.gate().child)
            _wait_for(allowed, STARTS)
        finally:
            over.set()
    for worker in starting:
        worker.result()

    output.say(f"{len(allowed)} signed and {len(refused)} unsigned starts over {len(gates) - 1} upgrades")
    assert (len(gates), at.gate().restarts) == (upgrades + 1, restarts)
    codes = Counter(code for _, code in allowed)
    assert codes == {"": len(allowed)}, codes
    assert Counter(code for _, code in refused) == {"UNSIGNED": len(refused)}
    verdicts = at.allowed()
    assert {container for container, _ in allowed} <= {each["container"] for each in verdicts}
    assert named("unsigned") not in {each["image"] for each in verdicts}


def _wait_for(attempts: list[tuple[str, str]], count: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while len(attempts) < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def named(image: str) -> str:
    """Return the reference of an image of the matrix."""
    return f"{REFERRERS}/cases/{image}:{TAG}"


def inv(state: Path, task: str) -> None:
    """Run a task on this host."""
    environment = {**os.environ, "INVOKE_NODE": "host", "INVOKE_STATE": str(state)}
    assert subprocess.run([str(ROOT / "inv"), task], env=environment, check=False).returncode == 0
