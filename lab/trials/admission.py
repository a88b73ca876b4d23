"""Every image of the matrix twice: refused at admission with Kyverno on, and at pull or start with it off."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from admission.kyverno import pod
from admission.manifests import HERE
from countersign.console.errors import InfrastructureError, UsageError, VerdictError
from countersign.nodes.template import render
from kind import cluster as clusters
from lab.demo.registries import FALLBACK, REFERRERS
from lab.trials.differences import Difference, Differences, Engine

if TYPE_CHECKING:
    from admission.kyverno import Kyverno
    from lab.trials.lab import Lab
    from lab.trials.model import Case
    from lab.trials.pods.model import Seen

ENGINE: Engine = "kyverno"
HOSTS: Mapping[Any, str] = {"referrers": REFERRERS, "fallback": FALLBACK}
NAMESPACE = "countersign-admission"
DECIDED_WITHIN = 180.0
POLL = 0.5


@dataclass(frozen=True)
class Trial:
    """What came out for one image, with Kyverno on or off.

    Attributes:
        case: the image's row of the matrix.
        kyverno: whether Kyverno was on.
        allow: whether the pod was taken, or ran.
        layer: who decided: ``admission``, ``pull`` or ``create``.
        code: the reason code in the message; empty where Kyverno knows none.
        message: the reason.
        millis: how long it took to know.
    """

    case: Case
    kyverno: bool
    allow: bool
    layer: str
    code: str
    message: str
    millis: float

    @property
    def id(self) -> str:
        """The trial's name."""
        parts = [self.case.image, *([self.case.name] if self.case.name != "tag" else [])]
        parts += [self.case.registry] if self.case.registry != "referrers" else []
        return "/".join(["admission" if self.kyverno else "start", *parts])


@dataclass(frozen=True)
class Outcome:
    """A trial, what is wrong with it, and the entry of ``differences.yaml`` that excuses it."""

    trial: Trial
    differences: tuple[str, ...] = ()
    excused: Difference | None = None


def chosen(only: Sequence[str]) -> list[Case]:
    """Return the matrix's images as pods can name them, or those whose name begins with one of ``only``.

    Short names stay out, for Docker Hub leads to no registry of ours in a cluster; so do image IDs, which no registry
    knows.

    Raises:
        UsageError: one of ``only`` names no image.
    """
    from lab.trials.model import load

    cases = [case for case in load() if case.way == "pull" and case.name in {"tag", "digest"}]
    for name in only:
        if not any(case.image.startswith(name) for case in cases):
            raise UsageError(f"no image begins with {name!r}", where="--only", do="see lab/trials/matrix.yaml")
    return [case for case in cases if not only or any(case.image.startswith(name) for name in only)]


def compare(on: Trial, off: Trial, known: Differences) -> tuple[Outcome, Outcome]:
    """Return what is wrong with an image's two trials: both must say the same, and the gate what the matrix says.

    Args:
        on: with Kyverno.
        off: without it.
        known: the differences that are excused.
    """
    case = off.case
    gate = []
    if off.allow != case.allow:
        gate.append("it ran" if off.allow else f"it was refused: {off.message}")
    elif not off.allow and (off.code, off.layer) != (case.code, case.layer):
        gate.append(f"{off.code} at {off.layer}, expected {case.code} at {case.layer}")
    if on.allow == off.allow:
        return Outcome(on), Outcome(off, tuple(gate))
    excused = known.excuse(case.image, ENGINE, allow=on.allow)
    says = f"Kyverno {'takes' if on.allow else 'refuses'} it and the gate does not: {on.message or off.message}"
    return Outcome(on, () if excused else (says,), excused), Outcome(off, tuple(gate))


def run_and_show(kyverno: Kyverno, only: Sequence[str], *, json: bool = False) -> None:
    """Try images with Kyverno on and off, and show what came out; the JSON document goes to the report's folder.

    Raises:
        VerdictError: a verdict was not the expected one, or a difference is excused that there is not.
    """
    from admission.report import require_up
    from countersign.console import output
    from lab.trials import differences

    cases = chosen(only)
    known = differences.load()
    require_up(kyverno)
    with output.progress(f"the images of the matrix ({len(cases)})"):
        lab = _lab(kyverno)
    on, off = run(kyverno, lab, cases)
    outcomes = [one for pair in zip(on, off, strict=True) for one in compare(*pair, known)]
    for outcome in outcomes:
        if outcome.differences:
            output.failed(f"{outcome.trial.id}: {'; '.join(outcome.differences)}")
        elif outcome.excused:
            output.skipped(f"{outcome.trial.id}: {outcome.excused.decides} decides: {outcome.excused.reason}")
    found = document(kyverno.settings.kind.cluster, outcomes)
    path = kyverno.settings.state / "report" / "admission-kind.json"
    _write(path, found)
    output.say(f"JSON        {path}")
    if json:
        output.emit_json(found)
    wrong = [outcome for outcome in outcomes if outcome.differences]
    if wrong:
        again = " ".join(f"--only {outcome.trial.case.image}" for outcome in wrong[:3])
        raise VerdictError(
            f"{len(wrong)} of {len(outcomes)} verdicts came out otherwise",
            do=f"repeat with ./inv admission.test {again}",
        )
    unused = [] if only else known.unused(ENGINE)
    if unused:
        names = ", ".join(entry.image for entry in unused)
        raise VerdictError(
            f"excused, and no difference: {names}", where="lab/trials/differences.yaml", do="remove it there"
        )
    output.done(f"{len(cases)} images: the same verdict at admission and on the node, but for what is excused")


def run(kyverno: Kyverno, lab: Lab, cases: Sequence[Case]) -> tuple[list[Trial], list[Trial]]:
    """Return the trials with Kyverno on, and with it off, both in the order of ``cases``.

    The gate decides by the lab's strict policy meanwhile, and so does Kyverno; the user's is put back whatever happens.
    """
    from countersign.console import output

    with _gates_policy(kyverno, lab.strict), kyverno.policy(lab.strict), _namespace(kyverno):
        with output.progress("with Kyverno: at admission"):
            on = [_ask(kyverno, lab, case) for case in cases]
        with output.progress("with Kyverno: what it takes runs, and not in dry runs alone"):
            _really(kyverno, lab, on)
        kyverno.off()
        with output.progress("without Kyverno: at pull and start"):
            off = _start(kyverno, lab, cases)
    return on, off


def document(cluster: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return the JSON document ``countersign.admission/v1``; times are in milliseconds."""
    return {
        "version": "countersign.admission/v1",
        "runtime": "containerd",
        "node": cluster,
        "rows": [_row(outcome) for outcome in outcomes],
        "passed": sum(not outcome.differences for outcome in outcomes),
        "failed": sum(bool(outcome.differences) for outcome in outcomes),
    }


def _row(outcome: Outcome) -> dict[str, Any]:
    trial, case, excused = outcome.trial, outcome.trial.case, outcome.excused
    layer = "admission" if trial.kyverno else case.layer
    # where Kyverno knows no code, or says otherwise and is excused, what it says is what is expected of it
    code = trial.code if trial.kyverno and (excused or not trial.code) else case.code
    return {
        "id": trial.id,
        "image": case.image,
        "way": "Kyverno on" if trial.kyverno else "Kyverno off",
        "name": case.name,
        "registry": case.registry,
        "layer": {"expected": layer, "actual": trial.layer},
        "allow": {"expected": trial.allow if excused else case.allow, "actual": trial.allow},
        "code": {"expected": code, "actual": trial.code},
        "cri_ms": round(trial.millis, 2),
        "gate_ms": None,
        "message": trial.message,
        "differences": list(outcome.differences),
        "excused": excused.model_dump() if excused else None,
        "repeat": f"./inv admission.test --only {case.image}",
    }


def _ask(kyverno: Kyverno, lab: Lab, case: Case) -> Trial:
    start = time.monotonic()
    answer = kyverno.ask(lab.reference(case), _name(case), NAMESPACE)
    millis = (time.monotonic() - start) * 1000
    code = "OK" if answer.allow else answer.code
    return Trial(case, True, answer.allow, "admission", code, answer.message, millis)


def _really(kyverno: Kyverno, lab: Lab, asked: Sequence[Trial]) -> None:
    """Create one pod of each verdict for good: a dry run must not be all that is ever tried."""
    for allow in (True, False):
        trial = next((each for each in asked if each.allow == allow == each.case.allow), None)
        if trial is None:
            continue
        name = f"real-{_name(trial.case)}"
        answer = kyverno.ask(lab.reference(trial.case), name, NAMESPACE, dry_run=False)
        if answer.allow != allow:
            raise VerdictError("another verdict than in the dry run", where=f"pod {name}")
        seen = _await(kyverno, {name: trial.case}) if allow else {}
        if allow and not seen[name][0].ran:
            raise VerdictError(f"was taken and does not run: {seen[name][0].message}", where=f"pod {name}")


def _start(kyverno: Kyverno, lab: Lab, cases: Sequence[Case]) -> list[Trial]:
    """Start a pod of every image at once, and return what the node made of each."""
    pods = {_name(case): case for case in cases}
    kyverno.kube.apply([pod(name, NAMESPACE, lab.reference(case)) for name, case in pods.items()])
    seen = _await(kyverno, pods)
    found = []
    for name, case in pods.items():
        what, seconds = seen[name]
        code, layer = ("OK", "create") if what.ran else (what.code, what.layer)
        found.append(Trial(case, False, what.ran, layer, code, what.message, seconds * 1000))
    return found


def _await(kyverno: Kyverno, pods: Mapping[str, Case]) -> dict[str, tuple[Seen, float]]:
    """Return what each pod's status shows in the end, and how many seconds that took.

    Raises:
        InfrastructureError: a pod neither ran nor was refused in time.
    """
    from lab.trials.pods.model import look

    start, found = time.monotonic(), dict[str, tuple["Seen", float]]()
    while pods.keys() - found.keys():
        for each in kyverno.kube.pods(NAMESPACE):
            seen = look(each)
            if seen.decided:
                found.setdefault(each["metadata"]["name"], (seen, time.monotonic() - start))
        if time.monotonic() > start + DECIDED_WITHIN:
            missing = ", ".join(sorted(pods.keys() - found.keys()))
            raise InfrastructureError(f"neither ran nor were refused within {DECIDED_WITHIN:g} s", where=missing)
        time.sleep(POLL)
    return found


@contextmanager
def _gates_policy(kyverno: Kyverno, source: Path) -> Iterator[None]:
    """Let the gates of all nodes where pods run decide by another policy.yaml."""
    from countersign.enforcement import policy
    from countersign.enforcement.layout import SYSTEM
    from countersign.nodes.each import side_by_side

    nodes = [each.node for each in clusters.require(kyverno.settings).workers]
    pins = policy.read_pins(clusters.folder(kyverno.settings) / "pins.json")

    def put(wanted: bytes) -> None:
        side_by_side(lambda node: node.put(wanted, SYSTEM.policy), nodes)
        side_by_side(lambda node: policy.in_force(node, SYSTEM, wanted), nodes)

    before = policy.render(kyverno.settings.policy, pins)
    try:
        put(policy.render(source, pins))
        yield
    finally:
        put(before)


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
    from countersign.oci.build import variant
    from countersign.tools.images import demo_layout
    from lab.trials.lab import build
    from lab.trials.model import load

    settings = kyverno.settings

    def new_layout(mark: str, folder: Path) -> Path:
        return variant(demo_layout(settings), mark, folder)

    folder = settings.state / "cases" / f"containerd-{clusters.require(settings).workers[0].name}"
    everything = [case for case in load() if case.name != "short"]
    return build(folder, HOSTS, kyverno.registry(), new_layout, everything)


def _name(case: Case) -> str:
    """Return a pod's name."""
    parts = [case.image.replace("_", "-"), case.name, case.registry]
    return "-".join(parts)


def _write(path: Path, found: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
