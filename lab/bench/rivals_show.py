"""What bench.rivals found, as tables, and in the suite's page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from countersign.console.config import ROOT
from countersign.console.errors import UsageError

PAGE = ROOT / "bypass" / "README.md"
NODE = ("<!-- rivals: ./inv bench.rivals --write -->\n", "<!-- rivals end -->\n")
ADMISSION = ("<!-- admission: ./inv bench.admission --write -->\n", "<!-- admission end -->\n")

Table = tuple[tuple[str, ...], list[tuple[str, ...]]]


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


def write(markdown: Path, page: Path = PAGE, marks: tuple[str, str] = NODE) -> None:
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
