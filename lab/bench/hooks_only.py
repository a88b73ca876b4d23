"""The hook by itself: a start varies by more than any hook takes."""

from __future__ import annotations

import json
import random

from countersign.cri.model import Container
from lab.bench.images import Image
from lab.bench.model import HooksOnly
from lab.bench.testbed import Testbed
from lab.trials.cri_place import SLEEP

WARM_UP = 5


def hooks_only(testbed: Testbed, image: Image, runs: int) -> HooksOnly:
    """Run the no-op hook and countersign's, in turns, on a container of an image that the gate remembers.

    Raises:
        CommandError: a hook failed.
    """
    layout = testbed.instance.layout
    hooks = {"noop": [str(testbed.programs["noop-hook"])], "hook": [layout.hook, "--socket", layout.gate_socket]}
    times: dict[str, list[float]] = {name: [] for name in hooks}
    with testbed.instance.client() as client, client.pod() as pod:
        container = client.create(pod, Container(image.id, written=image.reference, command=SLEEP))
        state = _state(container, image.reference)
        for turn in range(WARM_UP + runs):
            for name in random.Random(turn).sample(tuple(hooks), len(hooks)):  # noqa: S311 - an order is not a secret
                seconds = testbed.instance.node.run(hooks[name], input=state).seconds
                if turn >= WARM_UP:
                    times[name].append(seconds * 1000)
    return HooksOnly(**times)


def _state(container: str, image: str) -> bytes:
    """Return the OCI state of a container as a createRuntime hook is given it (runtime-spec, "State")."""
    annotations = {"io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.image-name": image}
    state = {"ociVersion": "1.2.0", "id": container, "status": "creating", "bundle": "/", "annotations": annotations}
    return json.dumps(state).encode()
