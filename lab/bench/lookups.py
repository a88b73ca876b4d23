"""What a cold image asks of its registry, by format of signatures and kind of registry, and how long that takes.

One real gate for each case; another gate, built elsewhere, can be measured beside it, in the same rounds.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from countersign.console import output
from countersign.console.errors import InfrastructureError
from countersign.nodes.template import render
from lab.bench import fleet_store, gauges
from lab.bench.fleet_nodes import HOST, gates
from lab.bench.fleet_registry import LoggedRegistry, free_port

if TYPE_CHECKING:
    from countersign.console.config import Settings
    from signing.stored import Format

FORMS: Mapping[str, tuple[Format, ...]] = {
    "attachment": ("attachment",),
    "bundle": ("bundle",),
    "both": ("attachment", "bundle"),
}
KINDS = {"with the referrers API": "registry", "without it": "registry-fallback"}
DELAYS = (0, 5, 50)
"""Milliseconds by which the registry answers later."""
SIGNED = {"index and platform": True, "index": False}
COLUMNS = ("signatures", "on", "registry", "gate", "first image", "each further", *(f"ms, at {d} ms" for d in DELAYS))
TAG = "v1"

HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "date", "server", "keep-alive"}


@dataclass(frozen=True)
class Case:
    """What is looked up, and by which gate."""

    form: str
    on: str
    kind: str
    gate: str


@dataclass
class Found:
    """What became of a case: requests of the first image, those of each further one, and milliseconds by delay."""

    first: list[int] = field(default_factory=list)
    further: list[int] = field(default_factory=list)
    millis: dict[int, list[float]] = field(default_factory=lambda: {delay: [] for delay in DELAYS})


class PlainRegistry(LoggedRegistry):
    """The demo's registry, which has the referrers API."""

    def prepare(self) -> Sequence[str]:
        """Return its command line."""
        return [str(self.program), "--address", f"127.0.0.1:{self.port}", "--dir", str(self.folder / "registry")]


def measure(settings: Settings, images: int, against: Path | None) -> dict[str, Any]:
    """Measure every case and return the document ``countersign.bench-lookups/v1``.

    Args:
        settings: the user's.
        images: that each gate judges, one after the other, each new to it.
        against: another gate's program; none for only this checkout's.
    """
    from countersign.tools.resolver import install

    machine = gauges.machine()
    programs = install(("countersign-gate", *KINDS.values()), settings)
    measured = {"this": programs["countersign-gate"]} | ({"other": against} if against else {})
    found: dict[Case, Found] = {}
    folder = Path(tempfile.mkdtemp(prefix="cslook-"))  # sockets need short paths
    try:
        for kind, program in KINDS.items():
            make = LoggedRegistry if program == "registry-fallback" else PlainRegistry
            registry = make(folder / program, programs[program], free_port())
            registry.start()
            try:
                _registry(settings, folder / program, registry, kind, images, measured, found)
            finally:
                registry.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return document(found, images, machine | {"loadAfter": gauges.load(), "programs": "distribution"})


def _registry(
    settings: Settings,
    folder: Path,
    registry: LoggedRegistry,
    kind: str,
    images: int,
    measured: Mapping[str, Path],
    found: dict[Case, Found],
) -> None:
    from countersign.policy import gate as rendering
    from countersign.policy.load import load

    made = _push(settings, folder, registry.url, images)
    policy = rendering.render(load(folder / "policy.yaml"))
    with output.progress(f"a registry {kind}") as far:
        for (form, on), containers in made.items():
            for delay in DELAYS:
                for name, program in measured.items():
                    far(f"{form} on {on}, {delay} ms")
                    case = found.setdefault(Case(form, on, kind, name), Found())
                    with _gate(folder, program, policy, registry.url, delay) as (gate, asked):
                        _judge(gate, asked, containers, case, delay)


def _judge(gate: Any, asked: list[str], containers: Sequence[str], case: Found, delay: int) -> None:
    for number, container in enumerate(containers):
        before, began = len(asked), time.perf_counter()
        verdict = gate.started(container, 1)
        case.millis[delay].append(1000 * (time.perf_counter() - began))
        if not verdict["allow"] or verdict["source"] != "registry":
            raise InfrastructureError(f"an image that is signed got {verdict['code']}", where=container)
        (case.further if number else case.first).append(len(asked) - before)


@contextmanager
def _gate(folder: Path, program: Path, policy: bytes, registry: str, delay: int) -> Iterator[tuple[Any, list[str]]]:
    """Run one gate that knows nothing, behind a registry that is slow."""
    with before(registry, delay / 1000) as way:
        certs = folder / "certs"
        (certs / HOST).mkdir(parents=True, exist_ok=True)
        hosts = Path(__file__).parents[2] / "countersign" / "enforcement" / "hosts.toml.j2"
        (certs / HOST / "hosts.toml").write_bytes(render(hosts, url=way.url, ca=""))
        with gates(folder, program, 1, policy, certs) as (gate,):
            yield gate, way.asked
        shutil.rmtree(gate.folder)


def _push(settings: Settings, folder: Path, url: str, images: int) -> dict[tuple[str, str], list[str]]:
    """Push images that are signed in each way; return containers of them, and write the nodes' storage and policy."""
    from countersign.keys.pair import generate
    from countersign.oci.build import variant
    from countersign.oci.layout import push
    from countersign.oci.reference import parse
    from countersign.oci.registry import Registry
    from countersign.tools.images import demo_layout
    from signing import sign

    certs = folder / "push"
    (certs / HOST).mkdir(parents=True)
    hosts = Path(__file__).parents[2] / "countersign" / "enforcement" / "hosts.toml.j2"
    (certs / HOST / "hosts.toml").write_bytes(render(hosts, url=url, ca=""))
    client, key, layout = Registry(certs), generate(), demo_layout(settings)
    (folder / "team.pub").write_text(key.public.pem)
    shutil.copyfile(Path(__file__).with_name("fleet-policy.yaml"), folder / "policy.yaml")
    layouts: dict[str, Path] = {}
    made: dict[tuple[str, str], list[str]] = {}
    with output.progress("images, pushed and signed"):
        for form, formats in FORMS.items():
            for on, recursive in SIGNED.items():
                for number in range(images):
                    mark = f"{form}-{'all' if recursive else 'index'}-{number}"
                    name = f"{HOST}/fleet/{mark}"
                    layouts[f"{name}:{TAG}"] = variant(layout, mark, folder / "layouts" / mark)
                    push(client, name, layouts[f"{name}:{TAG}"], TAG)
                    for target in sign.targets(client, parse(f"{name}:{TAG}"), recursive=recursive):
                        sign.sign(client, name, target, key, formats=formats)
                    made.setdefault((form, on), []).append(f"{name}:{TAG}")
    containers = fleet_store.write(folder / "storage", folder / "run", layouts)
    return {case: [containers[name] for name in names] for case, names in made.items()}


def document(found: Mapping[Case, Found], images: int, machine: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document of bench.lookups; times in milliseconds."""
    cases = [
        {
            "signatures": case.form,
            "on": case.on,
            "registry": case.kind,
            "gate": case.gate,
            "first": max(each.first),
            "further": statistics.mean(each.further) if each.further else None,
            "millis": {str(delay): statistics.median(values) for delay, values in each.millis.items()},
        }
        for case, each in found.items()
    ]
    return {
        "version": "countersign.bench-lookups/v1",
        "machine": dict(machine),
        "images": images,
        "cases": cases,
        "goals": [],
    }


def rows(document: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the table of a document of bench.lookups, in the order of ``COLUMNS``."""
    return [
        (
            case["signatures"],
            case["on"],
            case["registry"],
            case["gate"],
            str(case["first"]),
            "" if case["further"] is None else f"{case['further']:.1f}",
            *(f"{case['millis'][str(delay)]:.0f}" for delay in DELAYS),
        )
        for case in document["cases"]
    ]


@dataclass
class Front:
    """What stands before a registry.

    Attributes:
        asked: method and path of every request so far.
        delay: seconds by which each answer is later.
    """

    url: str
    delay: float
    asked: list[str] = field(default_factory=list)


@contextmanager
def before(registry: str, delay: float) -> Iterator[Front]:
    """Serve what a registry at a URL has, on another port of loopback, until the block ends."""
    import urllib3

    pool = urllib3.PoolManager(maxsize=64, block=False)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            front.asked.append(f"{self.command} {self.path}")
            time.sleep(front.delay)
            headers = {"Accept": self.headers.get("Accept", "*/*")}
            answer = pool.request(self.command, registry + self.path, headers=headers, redirect=False, retries=False)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                if name.lower() not in HOP_BY_HOP:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.data)))
            self.end_headers()
            self.wfile.write(answer.data)

        def log_message(self, *_: object) -> None:
            """Say nothing: requests are counted."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    front = Front(f"http://127.0.0.1:{server.server_port}", delay)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield front
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        pool.clear()
