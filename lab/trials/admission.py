"""Every image of the matrix twice: at admission with Kyverno or Gatekeeper on, and at pull or start with it off."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import yaml

from admission.engine import AtAdmission, pod
from admission.manifests import HERE
from countersign.console import output
from countersign.console.errors import InfrastructureError, VerdictError
from countersign.nodes.template import render
from kind import cluster as clusters
from lab.demo.registries import FALLBACK, REFERRERS
from lab.trials import differences
from lab.trials.differences import Differences, Engine
from lab.trials.lab import Lab, prepare
from lab.trials.model import Case, kind_of, load
from lab.trials.pods.model import look
from lab.trials.rows import OK, Found, Layer, Outcome, Row, Series, compare

HOSTS: Mapping[Any, str] = {"referrers": REFERRERS, "fallback": FALLBACK}
NAMESPACE = "countersign-admission"
DECIDED_WITHIN = 300.0
POLL = 0.5


@dataclass(frozen=True)
class Admitted(Row):
    """An image of the matrix, with the engine on or off.

    Attributes:
        case: the image's row of the matrix.
    """

    image: str
    way: str
    code: str
    layer: Layer
    case: Case
    on: bool

    @property
    def id(self) -> str:
        """The trial's name; an image's begins with the image."""
        parts = [self.image, "admission" if self.on else "start"]
        parts += [self.case.name] if self.case.name != "tag" else []
        parts += [self.case.registry] if self.case.registry != "referrers" else []
        return "/".join(parts)

    @property
    def details(self) -> Mapping[str, str]:
        """How it is named, and where it lies."""
        return self.case.details


def admitted(case: Case, *, on: bool, title: str = "Kyverno") -> Admitted:
    """Return an image's trial with an engine on or off: the code is the gate's."""
    layer: Layer = "admission" if on else case.layer
    return Admitted(case.image, f"{title} {'on' if on else 'off'}", case.code, layer, case, on)


def rows(title: str = "Kyverno") -> list[Admitted]:
    """Return the matrix's images as pods can name them, each twice.

    Short names stay out, for Docker Hub leads to no registry of ours in a cluster; so do image IDs, which no registry
    knows. Of images that Kyverno leaves to the gate, for they ask for certificates or attestations, one a code is
    enough: every image is a pod that one node has to start.
    """
    cases = [case for case in load() if case.way == "pull" and case.name in {"tag", "digest"}]
    chosen = {(kind_of(case.image), case.code if kind_of(case.image) else case.id): case for case in reversed(cases)}
    return [admitted(case, on=on, title=title) for case in reversed(chosen.values()) for on in (True, False)]


def judge(
    case: Case, on: Found, off: Found, known: Differences, engine: Engine = "kyverno", title: str = "Kyverno"
) -> tuple[Outcome, Outcome]:
    """Return what is wrong with an image's two trials: both must say the same, and the gate what the matrix says.

    Args:
        title: the engine's name as users read it.
    """
    if off.allow and case.allow:  # a pod that runs does not show by which of the allowing codes
        off = replace(off, code=case.code)
    with_it = admitted(case, on=True, title=title)
    gate = compare(admitted(case, on=False, title=title), off)
    if on.allow == off.allow:
        return Outcome(with_it, on), gate
    excused = known.excuse(case.image, engine, allow=on.allow)
    if excused:
        return Outcome(with_it, on, excused=f"{excused.decides} decides: {excused.reason}"), gate
    says = f"{title} {'takes' if on.allow else 'refuses'} it and the gate does not: {on.message or off.message}"
    return Outcome(with_it, on, (says,)), gate


def series(engine: AtAdmission) -> Series:
    """Return the images as trials of a cluster with an engine: at admission, and with it off on the node."""
    known, name = differences.load(), cast(Engine, engine.name)
    kind = "admission" if name == "kyverno" else f"admission-{name}"
    command = "./inv admission.test" if name == "kyverno" else f"./inv admission.test --engine {name}"

    def attempt(chosen: Sequence[Admitted]) -> Generator[Outcome, None, None]:
        cases = list(dict.fromkeys(row.case for row in chosen))
        on, off = _both(engine, cases)
        for case in cases:
            both = judge(case, on[case], off[case], known, name, engine.title)
            yield from (outcome for outcome in both if outcome.row in chosen)

    cluster = engine.settings.kind.cluster
    return Series(kind, "containerd", cluster, rows(engine.title), attempt, command, known=(known, name))


def _both(engine: AtAdmission, cases: Sequence[Case]) -> tuple[dict[Case, Found], dict[Case, Found]]:
    """Return what came of each image with the engine on, and with it off.

    Gate and engine decide by the lab's strict policy meanwhile; the user's is put back whatever happens.
    """
    lab = images(engine)
    # the engine first: its provider is another pod by another policy, which the strict one on the nodes refuses
    with engine.policy(lab.strict), gates_policy(engine, lab.strict), namespace(engine):
        with output.progress(f"with {engine.title}: at admission"):
            on = {case: review(engine, lab, case) for case in cases}
        with output.progress(f"with {engine.title}: what it takes runs, and not in dry runs alone"):
            _really(engine, lab, on)
        engine.off()
        with output.progress(f"without {engine.title}: at pull and start"):
            off = _start(engine, lab, cases)
    return on, off


def review(engine: AtAdmission, lab: Lab, case: Case) -> Found:
    """Return what the API server says to a pod with an image."""
    start = time.monotonic()
    answer = engine.review(lab.reference(case), _name(case), NAMESPACE)
    millis = (time.monotonic() - start) * 1000
    return Found(answer.allow, "admission", OK if answer.allow else answer.code, answer.message, millis=millis)


def _really(engine: AtAdmission, lab: Lab, asked: Mapping[Case, Found]) -> None:
    """Create one pod of each verdict for good: a dry run must not be all that is ever tried."""
    for allow in (True, False):
        case = next((case for case, found in asked.items() if allow == found.allow == case.allow), None)
        if case is None:
            continue
        name = f"real-{_name(case)}"
        answer = engine.review(lab.reference(case), name, NAMESPACE, dry_run=False)
        if answer.allow != allow:
            raise VerdictError("another verdict than in the dry run", where=f"pod {name}")
        found = _await(engine, [name])[name] if allow else None
        if found and not found.allow:
            raise VerdictError(f"was taken and does not run: {found.message}", where=f"pod {name}")


def _start(engine: AtAdmission, lab: Lab, cases: Sequence[Case]) -> dict[Case, Found]:
    """Start a pod of every image at once, and return what the node made of each."""
    engine.kube.apply([pod(_name(case), NAMESPACE, lab.reference(case)) for case in cases])
    seen = _await(engine, [_name(case) for case in cases])
    return {case: seen[_name(case)] for case in cases}


def _await(engine: AtAdmission, pods: Sequence[str]) -> dict[str, Found]:
    """Return what each pod's status shows in the end.

    Raises:
        InfrastructureError: a pod neither ran nor was refused in time.
    """
    start, seen = time.monotonic(), dict[str, Found]()
    while missing := sorted(set(pods) - seen.keys()):
        for each in engine.kube.pods(NAMESPACE):
            found = look(each)
            if found:
                seen.setdefault(each["metadata"]["name"], replace(found, millis=(time.monotonic() - start) * 1000))
        if time.monotonic() > start + DECIDED_WITHIN:
            raise InfrastructureError(
                f"neither ran nor were refused within {DECIDED_WITHIN:g} s", where=", ".join(missing)
            )
        time.sleep(POLL)
    return seen


@contextmanager
def gates_policy(engine: AtAdmission, source: Path) -> Iterator[None]:
    """Let the gates of all nodes where pods run decide by another policy.yaml."""
    from countersign.enforcement import installing, policy, record
    from countersign.enforcement.layout import SYSTEM

    nodes = [each.node for each in clusters.require(engine.settings).workers]
    kept = clusters.folder(engine.settings) / "pins.json"
    pins = tuple(policy.read_pins(kept))

    def put(wanted: Path) -> None:
        for node in nodes:  # one after the other: they share a record
            installing.install(policy.Policy(node, SYSTEM, wanted, pins).numbered(), record.beside(kept))

    try:
        put(source)
        yield
    finally:
        put(engine.settings.policy)


@contextmanager
def namespace(engine: AtAdmission) -> Iterator[None]:
    """Have a namespace for the pods, with what kubelets need to pull from the demo's registries."""
    config = (clusters.folder(engine.settings) / "etc" / "docker.json").read_text(encoding="utf-8")
    documents = list(yaml.safe_load_all(render(HERE / "namespace.yaml.j2", name=NAMESPACE, docker_config=config)))
    engine.kube.delete(documents[:1])
    engine.kube.apply(documents)
    try:
        yield
    finally:
        engine.kube.delete(documents[:1])


def images(engine: AtAdmission) -> Lab:
    """Return the matrix's images in the registries: those of containerd's run of it, where there was one."""
    node = clusters.require(engine.settings).workers[0].name
    return prepare(engine.settings, "containerd", node, HOSTS, engine.registry(), short_names=False)


def _name(case: Case) -> str:
    """Return a pod's name."""
    parts = [case.image.replace("_", "-"), case.name, case.registry]
    return "-".join(parts)
