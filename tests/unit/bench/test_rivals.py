"""bench.rivals: a refusal counts only where the honest twin ran, and losses are shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from countersign.console.errors import UsageError
from lab.bench import rivals, show
from lab.bench.rival_place import BINDIR, HOOK, NOTHING, OURS
from lab.bench.rivals import Engine
from lab.trials import bypass


@pytest.mark.parametrize(
    ("ran", "said"),
    [
        ({"row": False, "twin": True}, "refused"),
        ({"row": True, "twin": True}, "**runs**"),
        ({"row": True, "twin": False}, "**runs**"),
        ({"row": False, "twin": False}, "refuses the twin too"),
        ({"row": False}, "-"),
        ({"twin": True}, "-"),
    ],
)
def test_a_cell_says_what_came_of_an_attack_and_its_twin(ran: dict[str, bool], said: str) -> None:
    assert show.verdict(ran, "row", "twin") == said


def document() -> dict[str, object]:
    suite = bypass.load()
    all_refused = {each.row: bool(each.known) for each in suite.attacks}
    ours = all_refused | {each.twin: True for each in suite.attacks} | {each.row: True for each in suite.honest}
    engines = [
        Engine("countersign", ours, [1.0, 3.0], [2.0, 4.0], 0.5),
        Engine("other", {"unsigned/pull": True, "bundle/pull": True}, [1.0], [1.0], 0.25),
        Engine("nothing", {}, [1.0], [1.0], 0.25),
    ]
    return rivals.document(suite, engines, 30, {})


def test_every_attack_that_was_tried_has_a_row_and_our_loss_is_among_them() -> None:
    columns, rows = show.attacks(document())
    assert columns[2:] == ("countersign", "other")
    by_name = {row[0]: row[2:] for row in rows}
    assert by_name["copied-bundle"] == ("**runs**", "-")
    assert by_name["removed-signature"] == ("refused", "**runs**")
    assert by_name["*registry-away*"] == ("runs", "-")
    assert len(rows) == len(bypass.load().attacks) + len(bypass.load().honest)


def test_every_engine_has_its_costs() -> None:
    columns, rows = show.costs(document())
    assert columns[-1] == "30 at once, s"
    assert rows[0] == ("countersign", "2", "2 / 3", "3 / 4", "0.50")


def test_the_tables_go_between_the_marks_of_the_page(tmp_path: Path) -> None:
    page, markdown = tmp_path / "page.md", tmp_path / "run.md"
    markdown.write_text("| new |\n")
    page.write_text(f"before\n{show.NODE[0]}old\n{show.NODE[1]}after\n")
    show.write_page(markdown, page)
    assert page.read_text() == f"before\n{show.NODE[0]}| new |\n{show.NODE[1]}after\n"
    page.write_text("no marks")
    with pytest.raises(UsageError, match="has no place for the tables"):
        show.write_page(markdown, page)


def test_the_suites_page_has_the_marks_and_every_rival_differs() -> None:
    for marks in (show.NODE, show.ADMISSION):
        assert all(each in show.PAGE.read_text() for each in marks)
    assert len({rival.key for rival in (OURS, NOTHING, BINDIR, HOOK)}) == 4
    assert {rival.pulls for rival in (OURS, BINDIR)} == {True}
