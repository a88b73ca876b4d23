"""What enforcement costs a CRI-O: pulls and starts with nothing, its own policy, the gate, and both, side by side.

A private CRI-O is made, measured and removed. It is restarted for each variant, in blocks that take turns, so that
what else the machine does meets all variants alike.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from countersign.console.config import Settings
from countersign.cri.model import Container
from countersign.enforcement.supervised import Supervised
from countersign.runtimes.private import PrivatePlace
from crio import render
from crio.private import instance
from crio.runtime import Crio
from lab.bench import gauges, stats
from lab.bench.at_once import blocks
from lab.bench.at_once import seconds as seconds_of
from lab.bench.goals import Goal
from lab.bench.show import difference, goal_values, times
from lab.demo.images import push_signed
from lab.demo.keys import demo_key
from lab.demo.lab import DEMO
from lab.demo.registries import REFERRERS

if TYPE_CHECKING:
    from countersign.cri.client import Client

IMAGE = f"{REFERRERS}/demo/bench"
TAG = "v1"
COLUMNS = ("CRI-O with", "n", "create + start, ms", "over nothing, ms", "pull, ms")
VARIANTS = {"nothing": "nothing", "own": "its own policy", "gate": "the gate", "both": "both"}


@dataclass(frozen=True)
class Sample:
    """One round of one variant; milliseconds."""

    variant: str
    start: float
    pull: float


def measure(settings: Settings, rounds: int) -> dict[str, Any]:
    """Make a CRI-O, measure, remove it, and return the document ``countersign.bench-crio/v1``.

    Args:
        settings: the user's, with a CRI-O program; the state folder of the bench is its own.
        rounds: how often each variant is started, and pulls.
    """
    own = replace(settings, node="host", room="crio", state=settings.state / "bench-crio")
    place, machine = PrivatePlace(own, DEMO, instance(own.state).named(own)), gauges.machine()
    seconds = {}
    try:
        seconds["configure"] = seconds_of(lambda: place.setup(keep=True, plan=False))
        seconds["again"] = seconds_of(lambda: place.setup(keep=True, plan=False))
        _sign(own, place)
        samples = list(_rounds(machine_of(place), own, rounds))
        machine |= {"loadAfter": gauges.load(), "programs": f"CRI-O {_version(machine_of(place))}"}
    finally:
        place.clean(plan=False)
    return document(samples, seconds, machine)


def machine_of(place: PrivatePlace) -> Crio:
    """Return the CRI-O of a place of this host."""
    found = instance(place.settings.state).named(place.settings)
    return replace(found, addition=place.addition)


def _version(machine: Crio) -> str:
    with machine.client() as client:
        return client.version().version


def _sign(settings: Settings, place: PrivatePlace) -> None:
    from countersign.tools.images import demo_layout

    push_signed(place.registry(), f"{IMAGE}:{TAG}", demo_layout(settings), demo_key(settings))


def _rounds(machine: Crio, settings: Settings, rounds: int) -> Iterator[Sample]:
    for count in blocks(rounds):
        for variant in VARIANTS:
            with _variant(machine, settings, variant), machine.client() as client:
                yield from _block(client, variant, count)


def _block(client: Client, variant: str, count: int) -> Iterator[Sample]:
    reference = f"{IMAGE}:{TAG}"
    with client.pod() as pod:
        for number in range(count + 1):
            client.remove_image(reference)
            pull = seconds_of(lambda: client.pull(reference))
            image = client.image_status(reference)
            container = Container(
                image.id if image else "", written=reference, command=("/demo", "sleep"), name=f"c{number}"
            )
            began = time.monotonic()
            made = client.create(pod, container)
            client.start(made)
            start = time.monotonic() - began
            client.remove(made)
            if number:  # the first of a block meets a CRI-O that has just started
                yield Sample(variant, start * 1000, pull * 1000)


@contextmanager
def _variant(machine: Crio, settings: Settings, variant: str) -> Iterator[None]:
    """Let CRI-O run by a variant's settings; afterwards those of set-up lie there again, for the next restart."""
    ours = instance(settings.state)
    node, paths = machine.node, machine.paths
    kept = {path: node.get(path) for path in (paths.drop_in, paths.hook, paths.policy)}
    # without a policy that is named, the one of its user counts
    node.put(render.accepting(), f"{ours.home}/.config/containers/policy.json")
    if variant in ("nothing", "own"):
        named = f'signature_policy = "{paths.policy}"\n' if variant == "own" else ""
        node.put(f"[crio.image]\n{_pause(kept[paths.drop_in])}\n{named}".encode(), paths.drop_in)
        node.run(["rm", "--", paths.hook])
    if variant == "gate":
        node.put(render.accepting(), paths.policy)
    try:
        Supervised(ours.run, machine.controls().registry_stopped, "crio").restart_runtime()
        machine.wait_until_it_answers()
        if variant in ("gate", "both"):
            machine.wait_for_plugin()
        yield
    finally:
        for path, content in kept.items():
            node.put(content, path)


def _pause(drop_in: bytes) -> str:
    return next(line for line in drop_in.decode().splitlines() if line.startswith("pause_image"))


def document(samples: list[Sample], seconds: Mapping[str, float], machine: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document of bench.crio; times of rounds in milliseconds, of configuring in seconds."""
    starts = {key: [each.start for each in samples if each.variant == key] for key in VARIANTS}
    pulls = {key: [each.pull for each in samples if each.variant == key] for key in VARIANTS}
    over = {key: stats.paired(found, starts["nothing"]) for key, found in starts.items()}
    goals = [
        Goal("configuring a private CRI-O that is not there yet", seconds["configure"], 10, "s"),
        Goal("configuring it a second time", seconds["again"], 3, "s"),
    ]
    return {
        "version": "countersign.bench-crio/v1",
        "machine": dict(machine),
        "seconds": dict(seconds),
        "starts": {key: asdict(stats.summary(found)) for key, found in starts.items()},
        "pulls": {key: asdict(stats.summary(found)) for key, found in pulls.items()},
        "overNothing": {key: asdict(found) for key, found in over.items()},
        "goals": goal_values(goals),
    }


def rows(document: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the table of a document of bench.crio, in the order of ``COLUMNS``."""
    return [
        (
            text,
            str(document["starts"][key]["n"]),
            times(document["starts"][key]),
            "" if key == "nothing" else difference(document["overNothing"][key]),
            times(document["pulls"][key]),
        )
        for key, text in VARIANTS.items()
    ]
