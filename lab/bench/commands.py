"""Tasks: measure. They report, beside the goals, and fail only when something does not work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from invoke.context import Context

from countersign.console import output
from countersign.console.config import Settings, settings_from
from countersign.console.errors import UsageError
from countersign.console.task import task

JSON = "one JSON document on stdout"


@task(
    help={
        "rounds": "how often each variant is started",
        "at_once": "how many containers of one image are then started at the same moment",
        "json": JSON,
    }
)
def start(context: Context, rounds: int = 60, at_once: int = 50, json: bool = False) -> None:
    """Measure container starts over CRI: without a hook, with countersign's warm and cold, with cosign in a hook.

    Example: ./inv bench.start --rounds 60
    """
    _measured(context, "start", {"rounds": rounds, "at_once": at_once}, json=json)


@task(help={"rounds": "how many images each way signs", "json": JSON})
def sign(context: Context, rounds: int = 10, json: bool = False) -> None:
    """Measure signing one image in both formats, beside cosign.

    Example: ./inv bench.sign --rounds 10
    """
    _measured(context, "sign", {"rounds": rounds}, json=json)


@task(help={"rounds": "how many images each way signs", "json": JSON})
def identity(context: Context, rounds: int = 10, json: bool = False) -> None:
    """Measure signing one image without a key, in both formats, beside cosign, with a private Sigstore.

    Example: ./inv bench.identity --rounds 10
    """
    _measured(context, "identity", {"rounds": rounds}, json=json)


@task(
    help={
        "pods": "how many pods are started one by one, without and with enforcement",
        "at_once": "how many pods of one image are then created at the same moment",
        "json": JSON,
    }
)
def kind(context: Context, pods: int = 15, at_once: int = 30, json: bool = False) -> None:
    """Measure what enforcement costs a Kind cluster, on one of its own that is removed afterwards.

    Example: ./inv bench.kind --pods 15
    """
    _measured(context, "kind", {"pods": pods, "at_once": at_once}, json=json, module="cluster")


@task(
    help={
        "rounds": "how often each engine pulls and starts",
        "at_once": "how many containers of one image are then started at the same moment",
        "write": "put the tables into bypass/README.md",
        "json": JSON,
    }
)
def rivals(context: Context, rounds: int = 20, at_once: int = 30, write: bool = False, json: bool = False) -> None:
    """Try the bypass suite on countersign and on what people do instead, and measure what each costs; root.

    Example: ./inv bench.rivals --rounds 20
    """
    from lab.bench import show
    from lab.bench.rivals import measure

    _check({"rounds": rounds, "at_once": at_once})
    settings = settings_from(context)
    document = measure(settings, rounds, at_once)
    tables = [show.attacks(document), show.costs(document)]
    page = _tell(settings, "bench-rivals", document, tables, json=json)
    if write:
        show.write_page(page)


@task(
    help={
        "rounds": "how often each engine has a pod start",
        "at_once": "how many pods are then created at the same moment",
        "write": "put the tables into bypass/README.md",
        "json": JSON,
    }
)
def admission(context: Context, rounds: int = 20, at_once: int = 30, write: bool = False, json: bool = False) -> None:
    """Try the bypass suite in Kind on countersign, Kyverno and Gatekeeper, and measure what pods cost with each.

    Example: ./inv bench.admission --rounds 20
    """
    from containerd.backend import open_place
    from containerd.on_kind import OnKind
    from lab.bench import rival_admission, show
    from lab.trials.demo import require_up
    from lab.trials.runtimes import RUNTIMES

    _check({"rounds": rounds, "at_once": at_once})
    settings = settings_from(context, "kind")
    place = open_place(settings)
    if not isinstance(place, OnKind):
        raise UsageError("is not a cluster of ours", where=settings.node, do="./inv containerd.setup --on kind")
    require_up(place)
    trials = RUNTIMES["containerd"](place.settings, place.runtime()).as_set_up
    document = rival_admission.measure(place, trials, rounds, at_once)
    tables = [show.attacks(document), show.costs(document, "pod until it runs, ms")]
    page = _tell(settings, "bench-admission", document, tables, json=json)
    if write:
        show.write_page(page, marks=show.ADMISSION)


@task(
    help={
        "on": "the place, set up with the demo: vagrant (default), ssh://USER@HOST, or host",
        "write": "put the table into bypass/README.md",
        "json": JSON,
    }
)
def crio_rivals(context: Context, on: str = "", write: bool = False, json: bool = False) -> None:
    """Try the bypass suite on CRI-O: what its own engine refuses alone, and what with countersign beside it.

    Example: ./inv bench.crio-rivals --on host
    """
    from crio.backend import open_place
    from crio.runtime import Crio
    from lab.bench import crio_rivals as tried
    from lab.bench import show
    from lab.trials.demo import require_up

    settings = settings_from(context, on or None, room="crio")
    place = open_place(settings)
    require_up(place)
    found = place.runtime()
    if not isinstance(found, Crio):
        raise UsageError("is not one CRI-O", where=settings.node, expected="a single machine")
    document = tried.measure(place.settings, found)
    page = _tell(settings, "bench-crio-rivals", document, [show.attacks(document)], json=json)
    if write:
        show.write_page(page, marks=show.CRIO)


@task(help={"rounds": "how often each variant pulls and starts", "json": JSON})
def crio(context: Context, rounds: int = 50, json: bool = False) -> None:
    """Measure what enforcement costs a CRI-O, on a private one (CRIO_BIN) that is removed afterwards.

    Example: ./inv bench.crio --rounds 50
    """
    _measured(context, "crio", {"rounds": rounds}, json=json, place="host")


@task(
    help={
        "gates": "how many real gates are run on this machine",
        "images": "how many images each of them judges in a run",
        "repeats": "how often each is then judged again",
        "json": JSON,
    }
)
def fleet(context: Context, gates: int = 100, images: int = 5, repeats: int = 20, json: bool = False) -> None:
    """Count what many gates ask of one registry: cold, warm, while it is away, and after a new policy.

    Example: ./inv bench.fleet --gates 100
    """
    from lab.bench.fleet import said

    for sentence in said(
        _measured(context, "fleet", {"gates": gates, "images": images, "repeats": repeats}, json=json)
    ):
        output.say(sentence)


@task(
    help={
        "images": "how many images each gate judges, each new to it",
        "against": "the program of another gate, which is measured beside this checkout's",
        "json": JSON,
    }
)
def lookups(context: Context, images: int = 5, against: str = "", json: bool = False) -> None:
    """Count what a cold image asks of its registry, by format and kind of registry, at three latencies.

    Example: ./inv bench.lookups --against /usr/local/bin/countersign-gate
    """
    from lab.bench import lookups as measured

    _check({"images": images})
    other = Path(against).resolve() if against else None
    if other and not other.is_file():
        raise UsageError(f"there is no {against}", where="--against", expected="the program of a gate")
    settings = settings_from(context)
    document = measured.measure(settings, images, other)
    _tell(settings, "bench-lookups", document, [(measured.COLUMNS, measured.rows(document))], json=json)


@task(help={"rounds": "how often each variant starts a container", "json": JSON})
def nri(context: Context, rounds: int = 100, json: bool = False) -> None:
    """Measure what NRI, with the gate as a required plugin, adds to a container start; root.

    Example: ./inv bench.nri --rounds 100
    """
    _measured(context, "nri", {"rounds": rounds}, json=json)


@task(help={"rounds": "how often each thing is done, three times", "json": JSON})
def evidence(context: Context, rounds: int = 20, json: bool = False) -> None:
    """Measure verdicts from evidence on the node, with evidence of ten images there and of 10,000, side by side.

    Example: ./inv bench.evidence --rounds 20
    """
    _measured(context, "evidence", {"rounds": rounds}, json=json)


def _measured(
    context: Context, name: str, counts: Mapping[str, int], *, json: bool, module: str = "", place: str | None = None
) -> Mapping[str, Any]:
    """Measure, show what came of it, keep it for the report, and return its document.

    Args:
        name: the task's; the room it is of, where it is one of the product.
        counts: the options that say how often, as ``measure`` takes them.
        module: of this room, with ``measure``, ``rows`` and ``COLUMNS``, where it is not called as the task.
        place: where, if that is not the configured one.
    """
    _check(counts)
    settings, bench = settings_from(context, place, name if place else ""), import_module(f"lab.bench.{module or name}")
    document: Mapping[str, Any] = bench.measure(settings, *counts.values())
    _tell(settings, f"bench-{name}", document, [(bench.COLUMNS, bench.rows(document))], json=json)
    return document


def _tell(
    settings: Settings, name: str, document: Mapping[str, Any], tables: Sequence[tuple[Any, Any]], *, json: bool
) -> Path:
    """Show what was measured, and keep it for the report; return its page."""
    from lab.bench import show

    path = show.save(settings.state / "report", name, document, tables)
    for columns, rows in tables:
        output.table(columns, rows)
    if document["goals"]:
        output.table(show.GOAL_COLUMNS, show.goal_rows(document["goals"]))
    page = path.with_suffix(".md")
    output.say(f"JSON {path}, Markdown {page}")
    if json:
        output.emit_json(document)
    return page


def _check(counts: Mapping[str, int]) -> None:
    for option, value in counts.items():
        if value < 1:
            raise UsageError(f"got {value}", where=f"--{option.replace('_', '-')}", expected="1 or more")
