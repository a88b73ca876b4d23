"""The proof that nothing runs unseen: an image that no policy allows must be refused, at pull and at start.

Settings can be looked at (`countersign.enforcement.doctor`), but only a refusal by the gate, arriving in the
runtime's own error, shows that every part of the way is there.
"""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from countersign.cri.errors import CriError
from countersign.cri.model import Container
from countersign.enforcement.problem import NotEnforced, Problem
from countersign.enforcement.refusal import code_of
from countersign.nodes.each import side_by_side

if TYPE_CHECKING:
    from countersign.cri.client import Client

CANARY = "canary.countersign.test"
"""A registry name that no policy has."""
REPOSITORY = f"{CANARY}/canary"
REFUSED = f"{CANARY}/refused"
"""For a runtime with an engine of its own, which has to refuse this one at pull."""
TAG = "unsigned"
REFERENCE = f"{REPOSITORY}:{TAG}"
EXPECTED = "NO_SCOPE"
"""The canary's registry is in no policy, so this code says that the gate looked, and under a valid policy."""
KNOWN_WITHIN = 5.0
PLATFORMS = ("linux/amd64", "linux/arm64")
IMAGE_NAME = "io.containerd.image.name"
"""The annotation by which containerd names what it imports."""


def prove(
    client: Client,
    fetch: Callable[[str], None],
    forget: Callable[[str], None],
    handlers: Sequence[str],
    *,
    pull: bool = True,
) -> None:
    """Try the canary at pull and, under every runtime handler, at start.

    Args:
        client: of the runtime.
        fetch: brings an image into the runtime's store past every check at pull.
        forget: removes an image from that store.
        handlers: the runtime handlers.
        pull: a registry has it, so that a pull can be tried.

    Raises:
        NotEnforced: it was not refused, or not by the gate, or for another reason.
        CriError: the runtime failed before anything could be tried.
    """
    forget(REFERENCE)
    try:
        problems = [_pull(client)] if pull else []
        fetch(REFERENCE)
        image = _known(client)
        problems += side_by_side(lambda handler: _start(client, image, handler), handlers)
    finally:
        forget(REFERENCE)
    found = [problem for problem in problems if problem]
    if found:
        raise NotEnforced(found, "canary")


def archive() -> bytes:
    """Return the canary as an OCI image archive, for runtimes that can be given one; its program is none."""
    from countersign.oci import layout as layouts
    from countersign.oci.build import write_layout

    packed = io.BytesIO()
    with tempfile.TemporaryDirectory() as name, tarfile.open(fileobj=packed, mode="w") as tar:
        folder = Path(name)
        (folder / "canary").write_text("nobody runs this\n")
        made = folder / "layout"
        made.mkdir()
        write_layout(made, "canary", dict.fromkeys(PLATFORMS, folder / "canary"))
        entry = {**layouts.root(made).as_json(), "annotations": {IMAGE_NAME: REFERENCE}}
        (made / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
        tar.add(made, ".")
    return packed.getvalue()


def _pull(client: Client) -> Problem | None:
    try:
        client.pull(REFERENCE, timeout=30)
    except CriError as error:
        return _judge(f"pull of {REFERENCE}", error)
    return Problem(f"pull of {REFERENCE}", "allowed", f"refused by the image verifier with {EXPECTED}")


def _start(client: Client, image: str, handler: str) -> Problem | None:
    where = f"start of {REFERENCE} under the handler {handler}"
    with client.pod(handler=handler) as pod:
        try:
            client.start(client.create(pod, Container(image, written=REFERENCE)))
        except CriError as error:
            return _judge(where, error)
    return Problem(where, "allowed", f"refused by the hook with {EXPECTED}")


def _judge(where: str, error: CriError) -> Problem | None:
    if code_of(error.message) == EXPECTED:
        return None
    return Problem(where, f"refused with: {error.message}", f"a refusal by the gate with {EXPECTED}")


def _known(client: Client) -> str:
    """Return the image's ID; the CRI plugin learns by an event of what came in past it."""
    deadline = time.monotonic() + KNOWN_WITHIN
    while not (found := client.image_status(REFERENCE)):
        if time.monotonic() >= deadline:
            raise CriError("ImageStatus", "NOT_FOUND", f"{REFERENCE} did not become known in {KNOWN_WITHIN:g} s")
        time.sleep(0.02)
    return found.id
