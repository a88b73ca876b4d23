"""Nothing foreign acts on whoever reads it, and nothing writes past the functions that see to it."""

import ast
import io
import json
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from countersign.console import clean, output
from countersign.console.config import ROOT

HOSTILE = {
    "C0: an escape sequence": "\x1b[2J",
    "C0: a carriage return": "good\rbad",
    "C0: a line of its own": "x\n✓ all is well",
    "DEL": "a\x7fb",
    "C1: the one-byte CSI": "\x9b31m",
    "C1: next line": "a\x85b",
    "bidi override": "abc\u202ecba",
    "bidi isolate": "\u2066x\u2069",
    "zero width": "a\u200bb\u2060c\ufeffd",
    "line separator": "a\u2028b",
    "paragraph separator": "a\u2029b",
    "lone surrogate": "a\ud800b",
    "tag characters": "\U000e0041",
    "a letter without a look": "a\u3164b",
    "a variation selector": "a\U000e0101b",
}
EMITTERS: dict[str, Callable[[str], None]] = {
    "say": output.say,
    "warn": output.warn,
    "done": output.done,
    "failed": output.failed,
    "skipped": output.skipped,
    "table cell": lambda text: output.table(("a",), [[text]]),
    "table head": lambda text: output.table((text,), [["a"]], title=text),
    "tree": lambda text: output.show_tree(text, [(text, [(text, ())])]),
    "text": output.emit_text,
    "end of a log": lambda text: output.emit_end(text.encode(errors="surrogatepass"), 9),
    "json": lambda text: output.emit_json({"version": "countersign.x/v1", "x": text, text: 1}),
}


def acts(character: str) -> bool:
    """Say whether a character is of a kind that a terminal or a reader's eye would act on."""
    return unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"}


@pytest.mark.parametrize("foreign", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("emit", EMITTERS.values(), ids=EMITTERS)
def test_no_way_out_shows_foreign_text_as_it_is(
    emit: Callable[[str], None], foreign: str, capsys: pytest.CaptureFixture[str]
) -> None:
    emit(foreign)
    shown = "".join(capsys.readouterr())
    assert [hex(ord(each)) for each in shown if acts(each) and each != "\n"] == []
    assert foreign.replace("\n", " ") not in shown


@pytest.mark.parametrize("foreign", HOSTILE.values(), ids=HOSTILE)
def test_a_line_stays_one_line_and_tells_what_was_there(foreign: str) -> None:
    assert clean.line(foreign) == "".join(
        each if (each.isascii() and each.isprintable()) or each == "✓" else ascii(each)[1:-1] for each in foreign
    )


def test_every_character_that_acts_is_escaped_and_text_stays_text() -> None:
    kept = [each for each in map(chr, range(sys.maxunicode + 1)) if acts(each) and clean.text(each) == each]
    assert kept == ["\t", "\n"]
    for good in ("", "plain", "größe 日本語 ✓ → é", "a\tb", "a\nb\n"):
        assert clean.text(good) == good


@given(st.text(alphabet=st.characters()))
def test_cleaning_ends_in_what_is_clean(foreign: str) -> None:
    once = clean.line(foreign)
    assert clean.line(once) == once
    assert "\n" not in once
    once.encode()  # no surrogate is left


@given(st.text(alphabet=st.characters()))
def test_a_document_says_what_was_there(foreign: str) -> None:
    stdout, sys.stdout = sys.stdout, io.StringIO()
    try:
        output.emit_json({"version": "countersign.x/v1", "x": foreign})
        written = sys.stdout.getvalue()
    finally:
        sys.stdout = stdout
    assert json.loads(written)["x"] == foreign
    assert all(each.isprintable() or each == "\n" for each in written)


@pytest.mark.parametrize("foreign", ["[red]x[/red]", "[link=http://x]y[/link]", "host:bomb:x", "[/]"])
def test_markup_and_emoji_codes_in_foreign_text_are_text(foreign: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name, emit in EMITTERS.items():
        emit(foreign)
        assert foreign in "".join(capsys.readouterr()), name


def test_a_spinner_shows_no_foreign_character(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(output, "_terminal", lambda: Console(file=screen, force_terminal=True, width=99))
    with output.progress("a\u202eb [red]c"):
        pass
    assert "a\\u202eb [red]c" in screen.getvalue()
    assert "\u202e" not in screen.getvalue()


def test_nothing_writes_to_a_terminal_but_the_console() -> None:
    """A `print` elsewhere would be a way around the cleaning."""
    rooms = [path.parent for path in ROOT.glob("*/__init__.py") if path.parent.name != "tests"]
    console = ROOT / "countersign" / "console"
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for room in rooms
        for path in room.rglob("*.py")
        if path.parent != console
        for line in writes(path)
    ]
    assert len(rooms) > 5
    assert found == []


def writes(path: Path) -> list[int]:
    """Return the lines of a module that print, or name sys.stdout, sys.stderr or rich's own console."""
    lines = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        prints = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
        stream = isinstance(node, ast.Attribute) and node.attr in ("stdout", "stderr", "__stdout__", "__stderr__")
        stream = stream and isinstance(node.value, ast.Name) and node.value.id == "sys"  # type: ignore[attr-defined]
        consoles = isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rich.console")
        if prints or stream or consoles:
            lines.append(node.lineno)  # type: ignore[attr-defined]
    return lines
