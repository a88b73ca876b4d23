"""Containers that are started over and over on a containerd under enforcement, for the tests that disturb its gate."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from countersign.console.config import ROOT, CheckSettings, Settings
from countersign.cri.errors import CriError
from lab.demo.registries import REFERRERS
from lab.trials.containerd_place import ContainerdPlace
from lab.trials.images import TAG

if TYPE_CHECKING:
    from containerd.instance import Instance

STARTS = int(os.environ.get("INVOKE_TESTS_STARTS") or CheckSettings().starts)
"""How many containers are started."""
NAMED_BY_THE_POLICY = ("pinned", "revoked_digest")
"""Images of the matrix whose digests its policy has."""


@dataclass(frozen=True)
class Enforced:
    """A containerd of this host under enforcement, whose store has images that were let in before.

    Attributes:
        settings: with a state folder of its own.
        at: the containerd.
        place: the same, opened for trials.
    """

    settings: Settings
    at: Instance
    place: ContainerdPlace

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
        log = Path(self.at.layout.verdicts)
        lines = [line for file in log.parent.glob(f"{log.name}*") for line in file.read_text().splitlines()]
        return [each for each in map(json.loads, lines) if each["layer"] == "create" and each["allow"]]


@contextmanager
def enforced(images: Collection[str]) -> Iterator[Enforced]:
    """Set a containerd up with these images of the matrix in its store, refuse what is not signed, and clean up."""
    from containerd.instance import instance
    from countersign.oci.access import registry
    from countersign.oci.build import variant
    from countersign.tools.images import demo_layout
    from lab.demo.lab import with_demo
    from lab.trials import lab, model

    folder = Path(tempfile.mkdtemp(prefix="cs-"))  # short: sockets lie below it
    try:
        inv(folder, "containerd.setup")
        settings = Settings(node="host", state=folder)
        at = with_demo(settings, instance(folder))
        there = [row for row in model.load() if row.registry == "referrers" and row.name != "short"]
        built = lab.build(
            folder / "cases",
            ContainerdPlace.registries,
            registry(settings),
            lambda mark, target: variant(demo_layout(settings), mark, target),
            [row for row in there if row.image in {*images, *NAMED_BY_THE_POLICY}],
        )
        with ContainerdPlace(at, settings.policy) as place:
            place.set_policy(built.lax)
            for image in images:
                place.pull(named(image))
            place.set_policy(built.strict)
            yield Enforced(settings, at, place)
    finally:
        inv(folder, "containerd.clean")
        shutil.rmtree(folder)


def named(image: str) -> str:
    """Return the reference of an image of the matrix."""
    return f"{REFERRERS}/cases/{image}:{TAG}"


def inv(state: Path, task: str) -> None:
    """Run a task on this host."""
    environment = {**os.environ, "INVOKE_NODE": "host", "INVOKE_STATE": str(state)}
    assert subprocess.run([str(ROOT / "inv"), task], env=environment, check=False).returncode == 0
