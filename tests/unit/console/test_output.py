import io
import json
import threading
import time

import pytest
from rich.console import Console

from countersign.console import output


def test_json_is_all_that_goes_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    output.say("for people")
    output.table(("a",), [["b"]])
    output.emit_json({"version": "countersign.thing/v1", "name": "ä"})
    assert json.loads(capsys.readouterr().out) == {"version": "countersign.thing/v1", "name": "ä"}


def test_a_document_without_its_version_is_refused() -> None:
    with pytest.raises(ValueError, match="version"):
        output.emit_json({"name": "x"})


def test_brackets_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    output.say("[red]x")
    output.table(("[a]",), [["[/b]"]])
    output.done("[c]")
    shown = capsys.readouterr().err
    assert "[red]x" in shown
    assert "[/b]" in shown
    assert "✓ [c]" in shown


def test_progress_says_how_it_ended(capsys: pytest.CaptureFixture[str]) -> None:
    with output.progress("good"):
        pass
    with pytest.raises(KeyError), output.progress("bad"):
        raise KeyError
    good, bad = capsys.readouterr().err.splitlines()
    assert good.startswith("✓ good 0.")
    assert bad.startswith("✗ bad 0.")


def test_long_work_gives_signs_of_life_and_says_how_far_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "SIGN_OF_LIFE", 0.01)
    seen = ""
    with output.progress("70 rows") as far:
        for told in ("  70 rows, ", "  70 rows: 12 of 70, a\\x1bb, "):
            while told not in seen:  # pytest's own limit ends a loop that waits in vain
                seen += capsys.readouterr().err
            far("12 of 70, a\x1bb")
    after = capsys.readouterr().err
    assert "✓ 70 rows" in after
    assert not [each for each in threading.enumerate() if each.daemon and "tell" in each.name]


def test_a_spinner_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(output, "_terminal", lambda: Console(file=screen, force_terminal=True, width=99))
    with output.progress("70 rows") as far:
        far("12 of 70")
        end = time.monotonic() + 30
        while "70 rows: 12 of 70" not in screen.getvalue() and time.monotonic() < end:
            time.sleep(0.01)
    assert "70 rows: 12 of 70" in screen.getvalue()


def test_long_lines_are_not_broken_where_no_terminal_is(capsys: pytest.CaptureFixture[str]) -> None:
    output.say("x" * 500)
    assert capsys.readouterr().err == "x" * 500 + "\n"
