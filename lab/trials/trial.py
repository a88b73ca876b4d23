"""The main job on a runtime that is set up: sign the demo, start it, and run the matrix."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from countersign.console.errors import InfrastructureError, UsageError, VerdictError
from countersign.cri.errors import CriError
from lab.demo.registries import FALLBACK, REFERRERS
from lab.trials.lab import SHORT

if TYPE_CHECKING:
    from countersign.console.config import Settings
    from countersign.oci.reference import Reference
    from countersign.oci.registry import Registry
    from lab.trials.cri_place import CriPlace
    from lab.trials.lab import Lab
    from lab.trials.model import Case
    from lab.trials.run import Outcome

DEMO = "demo/app"
TAG = "v1"
NEED_THE_PLUGIN = frozenset({"added_handler", "added_handler_gate_hung", "gate_hung"})
"""Ways that come out so because the runtime makes no container without the gate's NRI plugin."""
GREETING = "countersign demo"
URL = "http://127.0.0.1:8080/"


def registry(settings: Settings) -> Registry:
    """Return a client of the demo's registries, as the node reaches them."""
    from countersign.oci.access import registry as reach

    return reach(settings)


def demo_images() -> list[Reference]:
    """Return the demo's references, one in each registry."""
    from countersign.oci.reference import parse

    return [parse(f"{host}/{DEMO}:{TAG}") for host in (REFERRERS, FALLBACK)]


def push_demo(settings: Settings) -> list[Reference]:
    """Push the demo image to both registries, and return its references."""
    from countersign.oci.layout import push
    from countersign.tools.images import demo_layout

    client = registry(settings)
    for image in demo_images():
        push(client, image.name, demo_layout(settings), TAG)
    return demo_images()


def start_demo(place: CriPlace) -> list[str]:
    """Pull and start the signed demo from both registries under the user's policy, and ask it over HTTP.

    Returns the references that ran and answered.

    Raises:
        VerdictError: the runtime refused it.
        InfrastructureError: it answered something else.
    """
    with place:
        return [_start_one(place, str(image)) for image in demo_images()]


def _start_one(place: CriPlace, reference: str) -> str:
    try:
        place.pull(reference)
        container = place.create(place.image_id(reference), reference, command=("/demo",))
        place.start(container)
    except CriError as error:
        raise VerdictError(error.message, where=reference, do=f"sign it: ./inv {place.runtime}.sign") from error
    try:
        answer = place.get(container, URL).strip()
    finally:
        place.remove(container)
    if answer != GREETING:
        raise InfrastructureError(f"answered {answer!r}", where=reference, expected=repr(GREETING))
    return reference


def chosen(only: Sequence[str]) -> list[Case]:
    """Return the rows of the matrix, or those whose id begins with one of ``only``.

    Raises:
        UsageError: one of ``only`` names no row.
    """
    from lab.trials.model import load

    cases = load()
    for name in only:
        if not any(case.id.startswith(name) for case in cases):
            raise UsageError(f"no row begins with {name!r}", where="--only", do="see lab/trials/matrix.yaml")
    return [case for case in cases if not only or any(case.id.startswith(name) for name in only)]


def run_matrix(
    settings: Settings, place: CriPlace, cases: Sequence[Case], each: Callable[[Outcome], None]
) -> tuple[list[Outcome], Path]:
    """Run rows of the matrix, and return the outcomes and the JSON document's path."""
    from lab.trials.run import run
    from lab.trials.show import document

    made = lab(settings, place)
    with place:
        outcomes = run(place, made, cases, each)
    path = settings.state / "report" / f"{place.runtime}-{place.node}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    found = document(place.runtime, place.node, outcomes)
    path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return outcomes, path


def lab(settings: Settings, place: CriPlace) -> Lab:
    """Return the built images and policies of a place, those of an earlier run or new ones."""
    from countersign.oci.build import variant
    from countersign.tools.images import demo_layout
    from lab.trials.lab import build
    from lab.trials.model import load

    def new_layout(mark: str, folder: Path) -> Path:
        return variant(demo_layout(settings), mark, folder)

    folder = settings.state / "cases" / f"{place.runtime}-{place.node}"
    return build(folder, place.registries, registry(settings), new_layout, possible(place, load()))


def possible(place: CriPlace, cases: Sequence[Case]) -> list[Case]:
    """Return the rows that can be tried there.

    Short names need a Docker Hub that leads to the demo's registry; another runtime handler must be there, and
    a runtime that can require the gate.
    """
    left_out = set() if len(place.at.handlers) > 1 else {"other_handler"}
    if any(case.way in NEED_THE_PLUGIN for case in cases) and not place.plugin_required:
        left_out |= NEED_THE_PLUGIN
    return [case for case in cases if (place.short_names or case.name != "short") and case.way not in left_out]


def run_and_show(settings: Settings, place: CriPlace, cases: Sequence[Case], *, json: bool = False) -> None:
    """Run rows of the matrix and show them.

    Raises:
        VerdictError: a row came out otherwise than it says; logs and configuration were kept.
    """
    from countersign.console import output
    from countersign.enforcement.artifacts import collect
    from lab.trials import show

    able = possible(place, cases)
    with output.progress(f"{len(able)} rows") as far:
        far("their images")
        outcomes, path = run_matrix(settings, place, able, _progress(len(able), far))
    wrong = [outcome for outcome in outcomes if outcome.differences]
    name = place.node
    output.table(show.COLUMNS, show.rows(outcomes), title=f"{place.runtime} on {name}")
    if len(able) < len(cases):
        why = f"on {name} {SHORT} is not the demo's registry, or there is one handler, or the gate can't be required"
        output.skipped(f"{len(cases) - len(able)} rows: {why}")
    output.say(f"verdict log {place.at.layout.verdicts}")
    output.say(f"JSON        {path}")
    if json:
        output.emit_json(show.document(place.runtime, name, outcomes))
    if wrong:
        kept = collect(place.at, settings.state / "artifacts" / time.strftime("%Y%m%dT%H%M%S"))
        again = " ".join(f"--only {outcome.case.id}" for outcome in wrong[:3])
        output.say(f"artifacts   {kept}")
        raise VerdictError(
            f"{len(wrong)} of {len(outcomes)} rows came out otherwise",
            do=f"repeat with ./inv {place.runtime}.test {again}",
        )
    output.done(f"{len(outcomes)} rows came out as they must")


def _progress(total: int, far: Callable[[str], None]) -> Callable[[Outcome], None]:
    """Return what says so as soon as a row goes wrong, and tells ``far`` how many there were."""
    from countersign.console import output

    count = iter(range(1, total + 1))

    def each(outcome: Outcome) -> None:
        number = next(count)
        if outcome.differences:
            output.failed(f"{outcome.case.id}: {'; '.join(outcome.differences)}")
        far(f"{number} of {total}, {outcome.case.id}")

    return each
