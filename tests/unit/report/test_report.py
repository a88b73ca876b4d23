from __future__ import annotations

import json
import os
import re
import unicodedata
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from countersign.console.config import Settings
from countersign.console.errors import InfrastructureError, MissingError
from lab.report import plot
from lab.report.model import load
from lab.report.write import render, write
from lab.trials.places import Wanted, run_places

HOSTILE = '</code><script>alert(1)</script><img src="https://evil.example/x">'


def row(
    ident: str, message: str = "", differences: tuple[str, ...] = (), way: str = "pull", by: str = ""
) -> dict[str, Any]:
    return {
        "id": ident,
        "image": ident.split("/", maxsplit=1)[0],
        "way": way,
        "layer": {"expected": "pull", "actual": "pull"},
        "allow": {"expected": False, "actual": bool(differences)},
        "code": {"expected": "UNSIGNED", "actual": "" if differences else "UNSIGNED"},
        "by": {"expected": by, "actual": "" if differences else by},
        "excused": "",
        "cri_ms": 12.5,
        "gate_ms": None,
        "message": message,
        "differences": list(differences),
        "repeat": f"./inv containerd.test --only {ident}",
    }


def save(state: Path, name: str, kind: str, *rows: dict[str, Any], runtime: str = "containerd") -> None:
    folder = state / "report"
    folder.mkdir(exist_ok=True)
    document = {"version": "countersign.trials/v1", "kind": kind, "runtime": runtime, "node": "n1", "rows": rows}
    (folder / name).write_text(json.dumps(document))


@pytest.fixture
def state(tmp_path: Path) -> Path:
    save(tmp_path, "containerd-n1.json", "matrix", row("unsigned/pull", HOSTILE), row("wrong/pull"))
    save(tmp_path, "pods-kind.json", "pods", row("pods/job/unsigned", differences=("it ran",)))
    return tmp_path


def test_the_rows_of_all_documents_are_there_and_failures_come_first(state):
    found = load(state / "report")
    assert [each.id for each in found.rows] == ["pods/job/unsigned", "unsigned/pull", "wrong/pull"]
    assert found.failed == 1
    assert [group[:5] for group in found.groups()] == [
        ("matrix", "containerd", "n1", 2, 0),
        ("pods", "containerd", "n1", 0, 1),
    ]
    assert (found.rows[0].actual, found.rows[1].actual) == ("allow ?", "refuse UNSIGNED")


def test_other_files_in_the_folder_are_left_alone(state):
    (state / "report" / "else.json").write_text('{"version": "other/v1", "rows": [1]}')
    (state / "report" / "list.json").write_text("[]")
    assert len(load(state / "report").rows) == 3


def test_a_document_that_is_broken_is_told(state):
    (state / "report" / "containerd-n1.json").write_text("{")
    with pytest.raises(InfrastructureError, match=r"containerd-n1\.json: is not JSON"):
        write(state)


def test_nothing_run_is_told_with_the_way_to_it(tmp_path):
    with pytest.raises(MissingError, match=r"nothing has been run yet; run \./inv all\.e2e"):
        write(tmp_path)


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))


def test_what_runtimes_say_is_text_and_the_page_may_load_nothing(state):
    page = render(load(state / "report"))
    tags = Tags()
    tags.feed(page)
    assert [tag for tag, _ in tags.seen].count("script") == 1
    assert not [tag for tag, attrs in tags.seen if tag in ("img", "link", "iframe") or "src" in attrs]
    [policy] = [attrs["content"] for _, attrs in tags.seen if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert "&lt;script&gt;alert(1)" in page


def test_what_runtimes_say_is_shown_without_its_control_characters(tmp_path):
    said = "refused \u202egnp.exe\x9b2J\x1b[8m\u2028here\u200b"
    save(tmp_path, "containerd-n1.json", "matrix", row("a\u202eb/pull", said, (said,)))
    page = write(tmp_path)
    shown = page.read_text() + (tmp_path / "report" / "report.json").read_text()
    assert [each for each in shown if unicodedata.category(each) in ("Cc", "Cf", "Zl", "Zp") and each != "\n"] == []
    assert r"refused \u202egnp.exe\x9b2J\x1b[8m\u2028here\u200b" in shown


def test_the_json_document_has_every_row_and_what_was_left_out(state):
    places = [{"place": "kind", "ran": False, "why": "no engine"}]
    (state / "report" / "places.json").write_text(json.dumps(places))
    page = write(state)
    document = json.loads((state / "report" / "report.json").read_text())
    assert (document["version"], document["passed"], document["failed"]) == ("countersign.report/v2", 2, 1)
    assert document["places"] == places
    assert "was left out: no engine" in page.read_text()
    assert write(state) == page  # its own document is none of its inputs


BEFORE, BEGAN, AFTER = 1_700_000_000, 1_700_000_600, 1_700_001_200  # 22:13, 22:23 and 22:33 UTC


@pytest.mark.parametrize(("when", "stale"), [(BEFORE, True), (AFTER, False)])
def test_what_the_last_run_did_not_try_never_looks_fresh(tmp_path: Path, when: int, stale: bool) -> None:
    save(tmp_path, "containerd-n1.json", "matrix", row("unsigned/pull"))
    save(tmp_path, "starts.json", "starts", row("starts/cached"))
    for path in (tmp_path / "report").iterdir():
        os.utime(path, (when, when))
    place = {"place": "host", "ran": True, "why": "containerd did not start" if stale else "", "began": BEGAN}
    (tmp_path / "report" / "places.json").write_text(json.dumps([place]))
    page = write(tmp_path).read_text()
    document = json.loads((tmp_path / "report" / "report.json").read_text())
    assert (document["stale"], document["rows"][0]["stale"], document["rows"][1]["stale"]) == (
        2 * stale,
        stale,
        stale,
    )
    assert document["rows"][0]["tried"] == ("2023-11-14 22:13 UTC" if stale else "2023-11-14 22:33 UTC")
    assert document["rows"][0]["tried"] in page
    assert "the last run of all began 2023-11-14 22:23 UTC" in page
    assert ('class="good"' not in page, 'id="stale"' in page, 'id="broken"' in page) == (stale, stale, stale)
    assert page.count(", before the last run") == 4 * stale  # two rows, and the lines of their documents


def test_a_run_of_all_writes_when_it_began_and_what_it_wrote_is_fresh(tmp_path: Path) -> None:
    settings = Settings(state=tmp_path)
    save(tmp_path, "old.json", "matrix", row("unsigned/pull"))
    os.utime(tmp_path / "report" / "old.json", (BEFORE, BEFORE))
    run_places(
        settings,
        [Wanted("host")],
        lambda _: save(tmp_path, "new.json", "matrix", row("wrong/pull")),
    )
    assert {each.id: each.stale for each in load(tmp_path / "report").rows} == {
        "unsigned/pull": True,
        "wrong/pull": False,
    }


def test_a_plot_has_a_bar_for_each_variant_in_the_order_of_the_figures(state):
    bench = {
        "rounds": 2,
        "variants": [
            {"key": "none", "title": "no hook", "start": {"median": 50.0, "p95": 60.0}},
            {"key": "warm", "title": "countersign, warm", "start": {"median": 55.0, "p95": 80.0}},
        ],
        "samples": [{"variant": "none", "start": 50.0}, {"variant": "warm", "start": 55.0}],
    }
    first, second = plot.starts(bench).bars
    assert first.median < second.median < second.p95
    assert (first.words, first.samples) == ("50.0 ms", (first.median,))
    (state / "report" / "bench-start.json").write_text(json.dumps(bench))
    page = render(load(state / "report"))
    assert len(re.findall(r'class="median"', page)) == 2
    assert "bench.start" not in page


@pytest.mark.parametrize(("differences", "failed"), [(("it ran",), 1), ((), 0)])
def test_ways_to_start_unseen_say_what_was_done_and_who_refused(
    tmp_path: Path, differences: tuple[str, ...], failed: int
) -> None:
    start = row("starts/cached", HOSTILE, differences, way="cached, then tightened", by="own")
    save(tmp_path, "starts.json", "starts", start, runtime="crio")
    report = load(tmp_path / "report")
    page = render(report)
    assert (len(report.rows), report.failed) == (1, failed)
    assert "cached, then tightened" in page
    assert "refuse UNSIGNED by own" in page
    assert HOSTILE not in page


def test_what_is_excused_is_shown_with_its_reason_and_passes(tmp_path: Path) -> None:
    save(tmp_path, "own.json", "own", row("bundle/pull") | {"excused": "pull decides: it reads no bundles"})
    report = load(tmp_path / "report")
    assert report.good
    assert "pull decides: it reads no bundles" in render(report)


def test_the_engines_are_compared_once_one_of_cri_o_was_asked(tmp_path: Path) -> None:
    save(tmp_path, "containerd-n1.json", "matrix", row("unsigned/pull"))
    assert 'id="consistency"' not in render(load(tmp_path / "report"))
    save(tmp_path, "library.json", "library", row("unsigned/pull"), runtime="crio")
    page = render(load(tmp_path / "report"))
    assert 'id="consistency"' in page
    assert "not run" in page
