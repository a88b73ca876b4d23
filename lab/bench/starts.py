"""Measured container starts: in rounds, each with one start of every variant, and many at once."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from countersign.console.errors import InfrastructureError
from countersign.cri.errors import CriError
from countersign.cri.model import Container
from lab.bench import gauges
from lab.bench.at_once import at_once
from lab.bench.images import Image, Images
from lab.bench.model import VARIANTS, Burst, HooksOnly, Sample, Variant
from lab.bench.testbed import Testbed
from lab.trials.containerd_place import ContainerdPlace
from lab.trials.cri_place import SLEEP

if TYPE_CHECKING:
    from countersign.cri.client import Client

WARM_UP = 2
"""Rounds that are not counted: pods, caches and connections come to be."""
SETTLE = 0.05
"""Seconds between starts, in which the runtime clears away the last one."""
HOOKS_WARM_UP = 5
PODS_AT_ONCE = 4


def rounds(testbed: Testbed, images: Images, count: int) -> list[Sample]:
    """Measure every variant once a round, in another order each time.

    Args:
        images: of ``WARM_UP`` + ``count`` rounds.

    Raises:
        InfrastructureError: a variant is not what it claims to be.
        CriError: the runtime failed.
    """
    samples = []
    with ContainerdPlace(testbed.instance, testbed.settings.policy) as place:
        for variant in VARIANTS:
            _prove(place, variant, images.unsigned)
        for turn in range(WARM_UP + count):
            for variant in _shuffled(turn):
                time.sleep(SETTLE)
                sample = _measure(testbed, place, variant, images.of(variant.kind, turn), turn - WARM_UP)
                if turn >= WARM_UP:
                    samples.append(sample)
    return samples


def burst(testbed: Testbed, image: Image, starts: int) -> Burst:
    """Start one image, of which the node knows nothing yet, in ``starts`` pods at the same moment."""
    metrics = testbed.instance.layout.metrics
    with ContainerdPlace(testbed.instance, testbed.settings.policy) as place, testbed.instance.client() as client:
        try:
            containers = _created(client, image, starts)
            place.verdicts()  # those of earlier starts
            before = gauges.verifications(metrics)
            seconds, _ = at_once([partial(client.start, container) for container in containers])
            made = gauges.verifications(metrics) - before
            verdicts = place.verdicts()
        finally:
            client.remove_pods()
    sources = Counter(str(verdict["source"]) for verdict in verdicts)
    return Burst(starts, seconds, made, dict(sources), [float(verdict["ms"]) for verdict in verdicts])


def _created(client: Client, image: Image, count: int) -> list[str]:
    """Return containers that wait for their start, each in a pod of its own: a pod's shim starts one at a time."""
    wanted = Container(image.id, written=image.reference, command=SLEEP)
    with ThreadPoolExecutor(PODS_AT_ONCE) as pool:
        return list(pool.map(lambda _: client.create(client.run_pod(), wanted), range(count)))


def _shuffled(turn: int) -> Iterator[Variant]:
    """Yield the variants in the round's order: none always follows the same one, and each run has the same orders."""
    yield from random.Random(turn).sample(VARIANTS, len(VARIANTS))  # noqa: S311 - an order is not a secret


def _measure(testbed: Testbed, place: ContainerdPlace, variant: Variant, image: Image, turn: int) -> Sample:
    metrics = testbed.instance.layout.metrics
    before = gauges.verifications(metrics)
    begin = time.perf_counter()
    container = place.create(image.id, image.reference, handler=variant.handler)
    created = time.perf_counter()
    try:
        place.start(container)
        started = time.perf_counter()
        verdict = _verdict(place, container)
    finally:
        place.remove(container)
    found = str(verdict.get("source", ""))
    # in the first rounds the one image of the warm variants is not known to the gate
    if found != variant.source and turn >= 0:
        raise InfrastructureError(
            f"its outcome came from {found!r}", where=variant.title, expected=repr(variant.source)
        )
    return Sample(
        variant.key,
        turn,
        create=(created - begin) * 1000,
        start=(started - created) * 1000,
        gate=verdict.get("ms"),
        source=found,
        verifications=gauges.verifications(metrics) - before,
    )


def _verdict(place: ContainerdPlace, container: str) -> dict[str, Any]:
    """Return the gate's verdict on a container, or an empty one where no gate was asked."""
    return next((verdict for verdict in place.verdicts() if verdict.get("container") == container), {})


def _prove(place: ContainerdPlace, variant: Variant, unsigned: Image) -> None:
    """Refuse to compare with a hook that does not do what it is there for."""
    container = place.create(unsigned.id, unsigned.reference, handler=variant.handler)
    refused = False
    try:
        place.start(container)
    except CriError:
        refused = True
    finally:
        place.remove(container)
    if refused != variant.checks:
        found = "was refused" if refused else "was started"
        raise InfrastructureError(f"an unsigned image {found}", where=variant.title)


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
        for turn in range(HOOKS_WARM_UP + runs):
            for name in random.Random(turn).sample(tuple(hooks), len(hooks)):  # noqa: S311 - an order is not a secret
                seconds = testbed.instance.node.run(hooks[name], input=state).seconds
                if turn >= HOOKS_WARM_UP:
                    times[name].append(seconds * 1000)
    return HooksOnly(**times)


def _state(container: str, image: str) -> bytes:
    """Return the OCI state of a container as a createRuntime hook is given it (runtime-spec, "State")."""
    annotations = {"io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.image-name": image}
    state = {"ociVersion": "1.2.0", "id": container, "status": "creating", "bundle": "/", "annotations": annotations}
    return json.dumps(state).encode()
