"""What a fleet costs a registry: requests are counted in its own log, of real gates; only time is modelled."""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from countersign.console import output
from countersign.console.config import Settings
from countersign.nodes.template import render
from lab.bench import fleet_store, gauges
from lab.bench.fleet_nodes import HOST, Gate, all_at_once, gates, start
from lab.bench.fleet_registry import LoggedCache, LoggedRegistry, LoggedZot, free_port
from lab.demo.images import push_signed

STEPS = 10
"""Runs of a growing number of gates; the model is fitted on every other one."""
FLEET = 1000
TAG = "v1"
UNKNOWN = "unknown"
TRIES = 5
MIRRORS = ("a pull-through registry", "a caching proxy", "zot")
COLUMNS = (
    "gates",
    "images",
    "what",
    "judged",
    "refused",
    "retried",
    "registry requests",
    "a node and image",
    "mirror's requests",
    "s",
)


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        what: cold, warm, and so on.
        gates: how many judged, from the same moment on.
        images: how many each.
        refused: of them, refusals: reason code → how many.
        retried: pulls that were tried again, since the registry had not answered in time.
        requests: that the registry's log has of it.
        seconds: until the last verdict.
        mirrored: requests that a mirror's log has of it, where gates know nothing but the mirror.
    """

    what: str
    gates: int
    images: int
    judged: int
    refused: Mapping[str, int]
    retried: int
    requests: int
    seconds: float
    mirrored: int = 0


@dataclass(frozen=True)
class Model:
    """Seconds until the last cold verdict = ``base`` + ``each`` · gates · images.

    Attributes:
        base: seconds.
        each: seconds for each image of each gate.
        error: median of |predicted - measured| / measured over the runs that it was not fitted on.
        fleet: what it says of `FLEET` gates; beyond the measured range.
    """

    base: float
    each: float
    error: float
    fleet: float


@dataclass(frozen=True)
class Site:
    """The registry, a container of each image in it, set by set, one of an image that no node starts, and the gates."""

    registry: LoggedRegistry
    containers: Sequence[Sequence[str]]
    unknown: str
    gates: Sequence[Gate]
    certs: Path


def measure(settings: Settings, count: int, images: int, repeats: int) -> dict[str, Any]:
    """Run so many gates against one registry, and return the document ``countersign.bench-fleet/v1``.

    Args:
        images: that each node pulls in a run.
        repeats: how often each is judged again while it is remembered.
    """
    machine = gauges.machine()
    folder = Path(tempfile.mkdtemp(prefix="csfleet-"))  # sockets need short paths
    try:
        runs, resident, pushed = _site(settings, folder, count, images, repeats)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    machine |= {"loadAfter": gauges.load(), "programs": f"{count} gates, distribution"}
    return document(runs, resident, pushed, machine)


def _site(
    settings: Settings, folder: Path, count: int, images: int, repeats: int
) -> tuple[list[Run], list[int], float]:
    from countersign.policy import gate as rendering
    from countersign.policy.load import load
    from countersign.tools.resolver import install

    programs = install(("countersign-gate", "registry-fallback"), settings)
    registry = LoggedRegistry(folder, programs["registry-fallback"], free_port())
    certs = folder / "certs"
    _name(certs, registry)
    registry.start()
    try:
        with output.progress("images, pushed and signed"):
            made, unknown = _push(settings, folder, certs, STEPS + 1 + len(MIRRORS), images)
        policy = rendering.render(load(folder / "policy.yaml"))
        with gates(folder, programs["countersign-gate"], count, policy, certs) as nodes:
            site = Site(registry, made, unknown, nodes, certs)
            runs = [*_growing(site), *_whole(site, repeats)]
            took, after = _pushed_policy(site)
            return [*runs, after, *_mirrored(site)], [gate.resident for gate in nodes], took
    finally:
        registry.stop()


def _name(certs: Path, registry: LoggedRegistry) -> None:
    """Have nodes ask that registry, and no other, for the fleet's images."""
    hosts = Path(__file__).parents[2] / "countersign" / "enforcement" / "hosts.toml.j2"
    (certs / HOST).mkdir(parents=True, exist_ok=True)
    (certs / HOST / "hosts.toml").write_bytes(render(hosts, url=registry.url, ca=""))


def _mirrored(site: Site) -> list[Run]:
    """Return what the registry is asked for where new images are looked up at a mirror of it."""
    found, upstream = [], site.registry
    distribution = LoggedRegistry(upstream.folder / "mirror", upstream.program, free_port(), upstream.url)
    mirrors = {0: distribution}
    if nginx := shutil.which("nginx"):
        mirrors[1] = LoggedCache(upstream.folder / "cache", Path(nginx), free_port(), upstream.url)
    if zot := shutil.which("zot"):
        mirrors[2] = LoggedZot(upstream.folder / "synced", Path(zot), free_port(), upstream.url)
    for number, mirror in mirrors.items():
        for gate in site.gates:
            gate.stop()
        mirror.start()
        try:
            _name(site.certs, mirror)
            start(site.gates)
            run = _run(site, f"cold, through {MIRRORS[number]}", site.gates, site.containers[STEPS + 1 + number])
            found.append(replace(run, mirrored=len(mirror.requests())))
        finally:
            mirror.stop()
    return found


def _push(settings: Settings, folder: Path, certs: Path, sets: int, images: int) -> tuple[list[list[str]], str]:
    """Push sets of signed images and one that no node ever starts; write the nodes' storage and their policy."""
    from countersign.keys.pair import generate
    from countersign.oci.build import variant
    from countersign.oci.registry import Registry
    from countersign.tools.images import demo_layout

    client, key, layout = Registry(certs), generate(), demo_layout(settings)
    (folder / "team.pub").write_text(key.public.pem)
    shutil.copyfile(Path(__file__).with_name("fleet-policy.yaml"), folder / "policy.yaml")

    layouts: dict[str, Path] = {}

    def make(mark: str) -> str:
        name = f"{HOST}/fleet/{mark}:{TAG}"
        layouts[name] = variant(layout, mark, folder / "layouts" / mark)
        push_signed(client, name, layouts[name], key)
        return name

    made = [[make(f"r{run}-{number}") for number in range(images)] for run in range(sets)]
    unknown = make(UNKNOWN)
    containers = fleet_store.write(folder / "storage", folder / "run", layouts)
    return [[containers[name] for name in one] for one in made], containers[unknown]


def _run(site: Site, what: str, nodes: Sequence[Gate], containers: Sequence[str], tries: int = TRIES) -> Run:
    before = len(site.registry.requests())
    seconds, verdicts = all_at_once(nodes, containers, tries)
    refused = dict(Counter(verdict["code"] for verdict in verdicts if not verdict["allow"]))
    retried = sum(verdict["tries"] - 1 for verdict in verdicts)
    requests = len(site.registry.requests()) - before
    return Run(what, len(nodes), len(set(containers)), len(verdicts), refused, retried, requests, seconds)


def _growing(site: Site) -> list[Run]:
    """Return cold runs of a growing number of gates, each with images that no gate knows."""
    found = []
    with output.progress(f"{STEPS} cold runs") as far:
        for step in range(1, STEPS + 1):
            nodes = site.gates[: max(1, len(site.gates) * step // STEPS)]
            found.append(_run(site, "cold", nodes, site.containers[step - 1]))
            far(f"{len(nodes)} gates")
    return found


def _whole(site: Site, repeats: int) -> list[Run]:
    """Return what all gates together do warm, after a restart, and while the registry is away."""
    known = site.containers[STEPS]
    with output.progress("warm, restarted, and without the registry"):
        found = [_run(site, "cold", site.gates, known), _run(site, "warm", site.gates, [*known] * repeats)]
        site.registry.stop()
        for gate in site.gates:
            gate.stop()
        start(site.gates)
        found.append(_run(site, "registry away, gates restarted", site.gates, known, 1))
        found.append(_run(site, "registry away, an image that no node knows", site.gates, [site.unknown], 1))
        site.registry.start()
    return found


def _pushed_policy(site: Site) -> tuple[float, Run]:
    """Put another policy on every node at the same moment.

    Returns:
        seconds until the last gate decides by it, and what all gates do with the images that they know.
    """
    before = len(site.registry.requests())
    content = json.loads(site.gates[0].policy.read_text())
    content["scopes"][f"{HOST}/other"] = content["scopes"][f"{HOST}/fleet"]
    was = site.gates[0].ask("ping")["policy"]
    began = time.perf_counter()
    for gate in site.gates:
        beside = gate.folder / "policy.next"
        beside.write_text(json.dumps(content))
        beside.rename(gate.policy)
    for gate in site.gates:
        while gate.ask("ping")["policy"] == was:
            time.sleep(0.005)
    took = time.perf_counter() - began
    again = _run(site, "after a new policy", site.gates, site.containers[STEPS])
    return took, replace(again, requests=len(site.registry.requests()) - before)


def fit(runs: Sequence[Run]) -> Model:
    """Fit the model on every other run, by least squares, and hold it against those between."""
    size = [run.gates * run.images for run in runs]
    half, others = range(0, len(runs), 2), range(1, len(runs), 2)
    each, base = statistics.linear_regression([size[i] for i in half], [runs[i].seconds for i in half])
    errors = [abs(base + each * size[i] - runs[i].seconds) / runs[i].seconds for i in others]
    return Model(base, each, statistics.median(errors), base + each * FLEET * runs[0].images)


def document(runs: Sequence[Run], resident: Sequence[int], policy: float, machine: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document of bench.fleet; times in seconds, memory in bytes."""
    model = fit(runs[:STEPS])
    whole = runs[STEPS]
    return {
        "version": "countersign.bench-fleet/v1",
        "machine": dict(machine),
        "runs": [asdict(run) for run in runs],
        "model": asdict(model),
        "requestsANodeAndImage": whole.requests / whole.judged,
        "fleet": {"gates": FLEET, "requests": round(whole.requests / whole.judged * FLEET * whole.images)},
        "policySeconds": policy,
        "resident": {"median": statistics.median(resident), "most": max(resident)},
        "goals": [],
    }


def rows(document: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the table of a document of bench.fleet, in the order of ``COLUMNS``."""
    return [
        (
            str(run["gates"]),
            str(run["images"]),
            run["what"],
            str(run["judged"]),
            ", ".join(f"{number} {code}" for code, number in run["refused"].items()) or "0",
            str(run["retried"]),
            str(run["requests"]),
            f"{run['requests'] / run['judged']:.2f}",
            str(run["mirrored"] or ""),
            f"{run['seconds']:.2f}",
        )
        for run in document["runs"]
    ]


def said(document: Mapping[str, Any]) -> list[str]:
    """Return what the figures say, in sentences."""
    model, fleet, memory = document["model"], document["fleet"], document["resident"]
    time_of = f"{model['base']:.2f} s + {1000 * model['each']:.2f} ms · gates · images"
    off = f"fitted on half the runs, on the others {100 * model['error']:.0f} % off (median)"
    of_fleet = f"{fleet['gates']} gates: {model['fleet']:.0f} s, had they all only this machine's processors"
    took, most = document["policySeconds"], memory["most"] / 2**20
    return [
        f"{fleet['gates']} gates would ask {fleet['requests']} times for the images of one cold run, and then no more",
        f"last verdict of a cold run = {time_of}; {off}; {of_fleet}",
        f"a new policy was in force on every gate after {took:.2f} s",
        f"a gate takes {memory['median'] / 2**20:.0f} MiB, the largest {most:.0f} MiB",
    ]
