"""CRI-O's own engine against the bypass suite, on a private CRI-O without the gate."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from countersign.runtimes.private import PrivatePlace
from crio.private import instance
from lab.bench import crio as bench
from lab.bench.many import Engine, burst, timed
from lab.demo.lab import DEMO
from lab.demo.registries import REFERRERS
from lab.trials import matrix, model
from lab.trials.crio_place import CrioPlace
from lab.trials.lab import prepare

if TYPE_CHECKING:
    from countersign.console.config import Settings
    from lab.trials import bypass
    from lab.trials.lab import Lab

NO_GATE = frozenset({"gate_stopped", "gate_hung", "gate_back", "hook_program_missing"})
"""Ways that need the gate or its hook, which are not there."""


def engines(settings: Settings, suite: bypass.Suite, rounds: int, at_once: int) -> list[Engine]:
    """Make a CRI-O, try and measure it, remove it, and return it without checks and with its own engine."""
    own = replace(settings, node="host", room="crio", state=settings.state / "bench-crio")
    place = PrivatePlace(own, DEMO, instance(own.state).named(own))
    try:
        place.setup(keep=True, plan=False)
        machine = bench.machine_of(place)
        client, hosts = machine.addition.client(), CrioPlace.registries
        lab = prepare(own, "crio", "rivals", hosts, client, short_names=False, only=suite.rows)
        found = []
        for variant, title in (("nothing", "CRI-O, nothing"), ("own", "CRI-O's own engine")):
            with bench.running(machine, own, variant):
                strict = CrioPlace(replace(machine, engine="strict"), lab.lax, "own")
                ran = _tried(strict, lab, suite) if variant == "own" else {}
                found.append(_measured(strict, lab, title, ran, rounds, at_once, checks=variant == "own"))
        return found
    finally:
        place.clean(plan=False)


def _tried(place: CrioPlace, lab: Lab, suite: bypass.Suite) -> dict[str, bool]:
    wanted = set(suite.rows)
    cases = [case for case in place.rows(model.load()) if case.id in wanted and case.way not in NO_GATE]
    with place:
        return {row.row.id: row.found.allow for row in matrix.run(place, lab, cases)}


def _measured(
    place: CrioPlace, lab: Lab, title: str, ran: dict[str, bool], rounds: int, at_once: int, *, checks: bool
) -> Engine:
    image = f"{lab.built[f'{REFERRERS}/attachment'][0]}:v1"
    pulls, starts = list[float](), list[float]()
    with place:
        place.set_own(lab.strict if checks else None)
        for _ in range(rounds):
            place.forget(image)
            pulls.append(timed(lambda: place.pull(image)))
            starts.append(_start(place, image))
        at_once_took = burst(place, image, at_once)
    return Engine(title, ran, pulls, starts, at_once_took)


def _start(place: CrioPlace, image: str) -> float:
    found = place.image_id(image)
    began = time.perf_counter()
    container = place.create(found, image)
    place.start(container)
    took = (time.perf_counter() - began) * 1000
    place.remove(container)
    return took
