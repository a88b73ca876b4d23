"""Figures as a JSON document, as table rows, and as Markdown."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from countersign.console.config import ROOT
from countersign.console.errors import UsageError
from countersign.nodes.template import render
from lab.bench import stats
from lab.bench.goals import Goal, gate_times, start_times
from lab.bench.model import NO_OP, VARIANTS, Burst, HooksOnly, Sample, Variant

HERE = Path(__file__).resolve().parent
START_COLUMNS = (
    "start over CRI",
    "n",
    "start, ms",
    "create + start, ms",
    "start over no-op hook, ms",
    "in the gate, ms",
    "verifications",
)
"""Times are median / p95 / p99; a difference is its median, and between what it lies with 95 % confidence."""
SIGN_COLUMNS = ("signing one image", "n", "s")
GOAL_COLUMNS = ("goal", "found", "limit", "")

PAGE = ROOT / "bypass" / "README.md"
NODE = ("<!-- rivals: ./inv bench.rivals --write -->\n", "<!-- rivals end -->\n")
CRIO = ("<!-- crio: ./inv bench.crio-rivals --write -->\n", "<!-- crio end -->\n")
ADMISSION = ("<!-- admission: ./inv bench.admission --write -->\n", "<!-- admission end -->\n")

Table = tuple[tuple[str, ...], list[tuple[str, ...]]]


def start_document(
    samples: Sequence[Sample], hooks: HooksOnly, burst: Burst, goals: Sequence[Goal], machine: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the document of bench.start: summaries, goals, and every single sample."""
    return {
        "version": "countersign.bench-start/v1",
        "machine": dict(machine),
        "rounds": max(sample.turn for sample in samples) + 1,
        "variants": [_variant(variant, samples) for variant in VARIANTS],
        "hookAlone": {
            "noOp": asdict(stats.summary(hooks.noop)),
            "countersign": asdict(stats.summary(hooks.hook)),
            "overNoOp": asdict(stats.paired(hooks.hook, hooks.noop)),
        },
        "burst": {**asdict(burst), "gate": asdict(stats.summary(burst.gate))},
        "goals": goal_values(goals),
        "samples": [asdict(sample) for sample in samples],
    }


def _variant(variant: Variant, samples: Sequence[Sample]) -> dict[str, Any]:
    own = [sample for sample in samples if sample.variant == variant.key]
    starts, gate = start_times(samples, variant.key), gate_times(samples, variant.key)
    return {
        "key": variant.key,
        "title": variant.title,
        "start": asdict(stats.summary(starts)),
        "createAndStart": asdict(stats.summary([sample.both for sample in own])),
        "overNoOp": asdict(stats.paired(starts, start_times(samples, NO_OP.key))),
        "gate": asdict(stats.summary(gate)) if gate else None,
        "sources": dict(Counter(sample.source for sample in own if sample.source)),
        "verifications": sum(sample.verifications for sample in own),
    }


def goal_values(goals: Sequence[Goal]) -> list[dict[str, Any]]:
    """Return goals as JSON values."""
    return [{**asdict(goal), "met": goal.met} for goal in goals]


def start_rows(document: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the table of a document of bench.start."""
    return [_start_row(variant) for variant in document["variants"]]


def _start_row(variant: Mapping[str, Any]) -> tuple[str, ...]:
    gate = variant["gate"]
    return (
        variant["title"],
        str(variant["start"]["n"]),
        times(variant["start"]),
        times(variant["createAndStart"]),
        "" if variant["key"] == NO_OP.key else difference(variant["overNoOp"]),
        times(gate, 2) if gate else "",
        str(variant["verifications"]) if gate else "",
    )


def times(summary: Mapping[str, float], digits: int = 1) -> str:
    """Return median / p95 / p99 of a summary."""
    return " / ".join(f"{summary[key]:.{digits}f}" for key in ("median", "p95", "p99"))


def difference(found: Mapping[str, float]) -> str:
    """Return a median difference, and between what it lies."""
    return f"{found['median']:+.1f} ({found['low']:+.1f} … {found['high']:+.1f})"


def sign_document(
    ways: Mapping[str, Sequence[float]], goals: Sequence[Goal], machine: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the document of bench.sign; ``ways`` has the seconds of each way, round by round."""
    return {
        "version": "countersign.bench-sign/v1",
        "machine": dict(machine),
        "ways": [{"title": title, **asdict(stats.summary(seconds))} for title, seconds in ways.items()],
        "goals": goal_values(goals),
        "samples": {title: list(seconds) for title, seconds in ways.items()},
    }


def sign_rows(document: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the table of a document of bench.sign."""
    return [(way["title"], str(way["n"]), times(way, 3)) for way in document["ways"]]


def goal_rows(goals: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str, str]]:
    """Return the table of goals in a document."""
    return [
        (
            goal["name"],
            f"{goal['found']:.4g} {goal['unit']}".strip(),
            f"≤ {goal['limit']:g} {goal['unit']}".strip(),
            "✓" if goal["met"] else "✗",
        )
        for goal in goals
    ]


def save(folder: Path, name: str, document: Mapping[str, Any], tables: Sequence[tuple[Any, Any]]) -> Path:
    """Write ``NAME.json``, and ``NAME.md`` with these tables of columns and rows; return the first."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    goals = [(GOAL_COLUMNS, goal_rows(document["goals"]))] if document["goals"] else []
    markdown = render(HERE / "report.md.j2", machine=document["machine"], tables=[*tables, *goals])
    path.with_suffix(".md").write_bytes(markdown)
    return path


def verdict(ran: Mapping[str, bool], row: str, twin: str) -> str:
    """Return an attack's cell: a refusal counts only where the honest twin ran."""
    if row not in ran or twin not in ran:
        return "-"
    if ran[row]:
        return "**runs**"
    return "refused" if ran[twin] else "refuses the twin too"


def attacks(document: Mapping[str, Any]) -> Table:
    """Return who refuses what, and who lets run what is honest; engines that were only measured are left out."""
    engines = [each for each in document["engines"] if each["ran"]]
    rows = [
        (each["name"], each["about"], *(verdict(engine["ran"], each["row"], each["twin"]) for engine in engines))
        for each in document["attacks"]
        if any(each["row"] in engine["ran"] for engine in engines)
    ]
    words = {True: "runs", False: "**refused**", None: "-"}
    rows += [
        (f"*{each['name']}*", each["about"], *(words[engine["ran"].get(each["row"])] for engine in engines))
        for each in document["honest"]
    ]
    return ("attack, or *what has to run*", "what is done", *(engine["title"] for engine in engines)), rows


def costs(document: Mapping[str, Any], start: str = "create + start, ms") -> Table:
    """Return what each engine costs: median / p95 of pulls and starts, and the seconds of many starts at once."""

    def cell(found: Mapping[str, float] | None) -> str:
        return f"{found['median']:.0f} / {found['p95']:.0f}" if found else "-"

    rows: list[tuple[str, ...]] = [
        (
            engine["title"],
            str(engine["start"]["n"]),
            cell(engine["pull"]),
            cell(engine["start"]),
            f"{engine['atOnce']:.2f}",
        )
        for engine in document["engines"]
    ]
    return ("cost of", "n", "pull, ms", start, f"{document['atOnce']} at once, s"), rows


def write_page(markdown: Path, page: Path = PAGE, marks: tuple[str, str] = NODE) -> None:
    """Put a run's tables into the page, between its marks.

    Raises:
        UsageError: the page has no marks.
    """
    before, begin, rest = page.read_text(encoding="utf-8").partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not begin or not end:
        raise UsageError(
            "has no place for the tables", where=str(page), expected=" … ".join(each.strip() for each in marks)
        )
    page.write_text(before + begin + markdown.read_text(encoding="utf-8").strip() + "\n" + end + after, "utf-8")
