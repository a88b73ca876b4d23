"""Every image of the matrix twice: refused at admission with Kyverno on, and at pull or start with it off."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from admission.engine import pod
from admission.manifests import HERE
from countersign.console.errors import InfrastructureError, VerdictError
from countersign.nodes.template import render
from kind import cluster as clusters
from lab.demo.registries import FALLBACK, REFERRERS
from lab.trials import differences
from lab.trials.differences import Differences, Engine
from lab.trials.lab import Lab, prepare
from lab.trials.model import Case, kind_of, load
from lab.trials.pods.model import look
from lab.trials.rows import OK, Found, Layer, Outcome, Row, compare
from lab.trials.series import Series

if TYPE_CHECKING:
    from admission.kyverno import Kyverno

ENGINE: Engine = "kyverno"
HOSTS: Mapping[Any, str] = {"referrers": REFERRERS, "fallback": FALLBACK}
NAMESPACE = "countersign-admission"
DECIDED_WITHIN = 300.0
POLL = 0.5


@dataclass(frozen=True)
class Admitted(Row):
    """An image of the matrix, with Kyverno on or off.

    Attributes:
        case: the image's row of the matrix.
        kyverno: whether Kyverno is on.
    """

    image: str
    way: str
    code: str
    layer: Layer
    case: Case
    kyverno: bool

    @property
    def id(self) -> str:
        """The trial's name; an image's begins with the image."""
        parts = [self.image, "admission" if self.kyverno else "start"]
        parts += [self.case.name] if self.case.name != "tag" else []
        parts += [self.case.registry] if self.case.registry != "referrers" else []
        return "/".join(parts)

    @property
    def details(self) -> Mapping[str, str]:
        """How it is named, and where it lies."""
        return self.case.details


def admitted(case: Case, *, kyverno: bool) -> Admitted:
    """Return an image's trial with Kyverno on or off: the code is the gate's."""
    layer: Layer = "admission" if kyverno else case.layer
    return Admitted(case.image, f"Kyverno {'on' if kyverno else 'off'}", case.code, layer, case, kyverno)


def rows() -> list[Admitted]:
    """Return the matrix's images as pods can name them, each twice.

    Short names stay out, for Docker Hub leads to no registry of ours in a cluster; so do image IDs, which no registry
    knows. Of images that Kyverno leaves to the gate, for they ask for certificates or attestations, one a code is
    enough: every image is a pod that one node has to start.
    """
    cases = [case for case in load() if case.way == "pull" and case.name in {"tag", "digest"}]
    chosen = {(kind_of(case.image), case.code if kind_of(case.image) else case.id): case for case in reversed(cases)}
    return [admitted(case, kyverno=kyverno) for case in reversed(chosen.values()) for kyverno in (True, False)]


def judge(case: Case, on: Found, off: Found, known: Differences) -> tuple[Outcome, Outcome]:
    """Return what is wrong with an image's two trials: both must say the same, and the gate what the matrix says.

    Args:
        case: the image.
        on: what came out with Kyverno.
        off: without it.
        known: the differences that are excused.
    """
    if off.allow and case.allow:  # a pod that runs does not show by which of the allowing codes
        off = replace(off, code=case.code)
    with_it, gate = admitted(case, kyverno=True), compare(admitted(case, kyverno=False), off)
    if on.allow == off.allow:
        return Outcome(with_it, on), gate
    excused = known.excuse(case.image, ENGINE, allow=on.allow)
    if excused:
        return Outcome(with_it, on, excused=f"{excused.decides} decides: {excused.reason}"), gate
    says = f"Kyverno {'takes' if on.allow else 'refuses'} it and the gate does not: {on.message or off.message}"
    return Outcome(with_it, on, (says,)), gate


def series(kyverno: Kyverno) -> Series:
    """Return the images as trials of a cluster with Kyverno: at admission, and with it off on the node."""
    known = differences.load()

    def attempt(chosen: Sequence[Admitted]) -> Generator[Outcome, None, None]:
        cases = list(dict.fromkeys(row.case for row in chosen))
        on, off = _both(kyverno, cases)
        for case in cases:
            yield from (outcome for outcome in judge(case, on[case], off[case], known) if outcome.row in chosen)

    cluster = kyverno.settings.kind.cluster
    return Series("admission", "containerd", cluster, rows(), attempt, "./inv admission.test", known=(known, ENGINE))


def _both(kyverno: Kyverno, cases: Sequence[Case]) -> tuple[dict[Case, Found], dict[Case, Found]]:
    """Return what came of each image with Kyverno on, and with it off.

    The gate decides by the lab's strict policy meanwhile, and so does Kyverno; the user's is put back whatever happens.
    """
    from countersign.console import output

    lab = _lab(kyverno)
    with _gates_policy(kyverno, lab.strict), kyverno.policy(lab.strict), _namespace(kyverno):
        with output.progress("with Kyverno: at admission"):
            on = {case: _review(kyverno, lab, case) for case in cases}
        with output.progress("with Kyverno: what it takes runs, and not in dry runs alone"):
            _really(kyverno, lab, on)
        kyverno.off()
        with output.progress("without Kyverno: at pull and start"):
            off = _start(kyverno, lab, cases)
    return on, off


def _review(kyverno: Kyverno, lab: Lab, case: Case) -> Found:
    start = time.monotonic()
    answer = kyverno.review(lab.reference(case), _name(case), NAMESPACE)
    millis = (time.monotonic() - start) * 1000
    return Found(answer.allow, "admission", OK if answer.allow else answer.code, answer.message, millis=millis)


def _really(kyverno: Kyverno, lab: Lab, asked: Mapping[Case, Found]) -> None:
    """Create one pod of each verdict for good: a dry run must not be all that is ever tried."""
    for allow in (True, False):
        case = next((case for case, found in asked.items() if allow == found.allow == case.allow), None)
        if case is None:
            continue
        name = f"real-{_name(case)}"
        answer = kyverno.review(lab.reference(case), name, NAMESPACE, dry_run=False)
        if answer.allow != allow:
            raise VerdictError("another verdict than in the dry run", where=f"pod {name}")
        found = _await(kyverno, [name])[name] if allow else None
        if found and not found.allow:
            raise VerdictError(f"was taken and does not run: {found.message}", where=f"pod {name}")


def _start(kyverno: Kyverno, lab: Lab, cases: Sequence[Case]) -> dict[Case, Found]:
    """Start a pod of every image at once, and return what the node made of each."""
    kyverno.kube.apply([pod(_name(case), NAMESPACE, lab.reference(case)) for case in cases])
    seen = _await(kyverno, [_name(case) for case in cases])
    return {case: seen[_name(case)] for case in cases}


def _await(kyverno: Kyverno, pods: Sequence[str]) -> dict[str, Found]:
    """Return what each pod's status shows in the end.

    Raises:
        InfrastructureError: a pod neither ran nor was refused in time.
    """
    start, seen = time.monotonic(), dict[str, Found]()
    while missing := sorted(set(pods) - seen.keys()):
        for each in kyverno.kube.pods(NAMESPACE):
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
def _gates_policy(kyverno: Kyverno, source: Path) -> Iterator[None]:
    """Let the gates of all nodes where pods run decide by another policy.yaml."""
    from countersign.enforcement import installing, policy, record
    from countersign.enforcement.layout import SYSTEM

    nodes = [each.node for each in clusters.require(kyverno.settings).workers]
    kept = clusters.folder(kyverno.settings) / "pins.json"
    pins = tuple(policy.read_pins(kept))

    def put(wanted: Path) -> None:
        for node in nodes:  # one after the other: they share a record
            installing.install(policy.Policy(node, SYSTEM, wanted, pins).numbered(), record.beside(kept))

    try:
        put(source)
        yield
    finally:
        put(kyverno.settings.policy)


@contextmanager
def _namespace(kyverno: Kyverno) -> Iterator[None]:
    """Have a namespace for the pods, with what kubelets need to pull from the demo's registries."""
    config = (clusters.folder(kyverno.settings) / "etc" / "docker.json").read_text(encoding="utf-8")
    documents = list(yaml.safe_load_all(render(HERE / "namespace.yaml.j2", name=NAMESPACE, docker_config=config)))
    kyverno.kube.delete(documents[:1])
    kyverno.kube.apply(documents)
    try:
        yield
    finally:
        kyverno.kube.delete(documents[:1])


def _lab(kyverno: Kyverno) -> Lab:
    """Return the matrix's images in the registries: those of containerd's run of it, where there was one."""
    node = clusters.require(kyverno.settings).workers[0].name
    return prepare(kyverno.settings, "containerd", node, HOSTS, kyverno.registry(), short_names=False)


def _name(case: Case) -> str:
    """Return a pod's name."""
    parts = [case.image.replace("_", "-"), case.name, case.registry]
    return "-".join(parts)
