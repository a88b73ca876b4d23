"""Tasks: measure. They report, beside the goals, and fail only when something does not work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    from lab.bench import show
    from lab.bench.run import measure_starts

    _at_least_one("--rounds", rounds)
    _at_least_one("--at-once", at_once)
    settings = settings_from(context)
    document = measure_starts(settings, rounds, at_once)
    _tell(settings, "bench-start", document, show.START_COLUMNS, show.start_rows(document), json=json)


@task(help={"rounds": "how many images each way signs", "json": JSON})
def sign(context: Context, rounds: int = 10, json: bool = False) -> None:
    """Measure signing one image in both formats, beside cosign.

    Example: ./inv bench.sign --rounds 10
    """
    from lab.bench import show
    from lab.bench.sign import measure_signing

    _at_least_one("--rounds", rounds)
    settings = settings_from(context)
    document = measure_signing(settings, rounds)
    _tell(settings, "bench-sign", document, show.SIGN_COLUMNS, show.sign_rows(document), json=json)


@task(help={"rounds": "how many images each way signs", "json": JSON})
def identity(context: Context, rounds: int = 10, json: bool = False) -> None:
    """Measure signing one image without a key, in both formats, beside cosign, with a private Sigstore.

    Example: ./inv bench.identity --rounds 10
    """
    from lab.bench import show
    from lab.bench.identity import measure_identities

    _at_least_one("--rounds", rounds)
    settings = settings_from(context)
    document = measure_identities(settings, rounds)
    _tell(settings, "bench-identity", document, show.SIGN_COLUMNS, show.sign_rows(document), json=json)


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
    from lab.bench import cluster

    _at_least_one("--pods", pods)
    _at_least_one("--at-once", at_once)
    settings = settings_from(context)
    document = cluster.measure(settings, pods, at_once)
    _tell(settings, "bench-kind", document, cluster.COLUMNS, cluster.rows(document), json=json)


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
    from lab.bench import rivals_show, show
    from lab.bench.rivals import measure

    _at_least_one("--rounds", rounds)
    _at_least_one("--at-once", at_once)
    settings = settings_from(context)
    document = measure(settings, rounds, at_once)
    columns, rows = rivals_show.attacks(document)
    costs = rivals_show.costs(document)
    path = show.save(settings.state / "report", "bench-rivals", document, columns, rows, [costs])
    output.table(columns, rows)
    output.table(*costs)
    output.say(f"JSON {path}, Markdown {path.with_suffix('.md')}")
    if write:
        rivals_show.write(path.with_suffix(".md"))
    if json:
        output.emit_json(document)


@task(help={"rounds": "how often each variant pulls and starts", "json": JSON})
def crio(context: Context, rounds: int = 50, json: bool = False) -> None:
    """Measure what enforcement costs a CRI-O, on a private one (CRIO_BIN) that is removed afterwards.

    Example: ./inv bench.crio --rounds 50
    """
    from lab.bench import crio as measured

    _at_least_one("--rounds", rounds)
    settings = settings_from(context, "host", room="crio")
    document = measured.measure(settings, rounds)
    _tell(settings, "bench-crio", document, measured.COLUMNS, measured.rows(document), json=json)


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
    from lab.bench import fleet as measured

    _at_least_one("--gates", gates)
    _at_least_one("--images", images)
    _at_least_one("--repeats", repeats)
    settings = settings_from(context)
    document = measured.measure(settings, gates, images, repeats)
    _tell(settings, "bench-fleet", document, measured.COLUMNS, measured.rows(document), json=json)
    for sentence in measured.said(document):
        output.say(sentence)


@task(help={"rounds": "how often each variant starts a container", "json": JSON})
def nri(context: Context, rounds: int = 100, json: bool = False) -> None:
    """Measure what NRI, with the gate as a required plugin, adds to a container start; root.

    Example: ./inv bench.nri --rounds 100
    """
    from lab.bench import nri as measured

    _at_least_one("--rounds", rounds)
    settings = settings_from(context)
    document = measured.measure(settings, rounds)
    _tell(settings, "bench-nri", document, measured.COLUMNS, measured.rows(document), json=json)


@task(help={"rounds": "how often each thing is done, three times", "json": JSON})
def evidence(context: Context, rounds: int = 20, json: bool = False) -> None:
    """Measure verdicts from evidence on the node, with evidence of ten images there and of 10,000, side by side.

    Example: ./inv bench.evidence --rounds 20
    """
    from lab.bench import evidence as measured

    _at_least_one("--rounds", rounds)
    settings = settings_from(context)
    document = measured.measure(settings, rounds)
    _tell(settings, "bench-evidence", document, measured.COLUMNS, measured.rows(document), json=json)


def _tell(
    settings: Settings,
    name: str,
    document: Mapping[str, Any],
    columns: Sequence[str],
    rows: Sequence[Any],
    *,
    json: bool,
) -> None:
    """Show what was measured, and keep it for the report."""
    from lab.bench import show

    path = show.save(settings.state / "report", name, document, columns, rows)
    output.table(columns, rows)
    if document["goals"]:
        output.table(show.GOAL_COLUMNS, show.goal_rows(document["goals"]))
    output.say(f"JSON {path}, Markdown {path.with_suffix('.md')}")
    if json:
        output.emit_json(document)


def _at_least_one(option: str, value: int) -> None:

    if value < 1:
        raise UsageError(f"got {value}", where=option, expected="1 or more")
