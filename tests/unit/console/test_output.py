import json

import pytest

from console import output


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


def test_long_lines_are_not_broken_where_no_terminal_is(capsys: pytest.CaptureFixture[str]) -> None:
    output.say("x" * 500)
    assert capsys.readouterr().err == "x" * 500 + "\n"
