"""The tasks: problems one a line, explanations, and the rendered file whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from invoke.config import Config
from invoke.context import MockContext
from invoke.exceptions import Exit

from countersign.policy import commands

Write = Callable[[str], Path]
Capture = pytest.CaptureFixture[str]

GOOD = "roots: {team: {publicKey: {files: [team.pub]}}}\nscopes: {r.example: {anyOf: [team]}}\n"


def context_of(path: Path) -> MockContext:
    return MockContext(config=Config(overrides={"policy": str(path)}))


def refused(code: int, run: Callable[..., Any], *args: Any, **options: Any) -> str:
    with pytest.raises(Exit) as caught:
        run(*args, **options)
    assert caught.value.code == code
    assert "\n" not in str(caught.value.message)
    return str(caught.value.message)


def test_a_good_policy_is_counted(write: Write, capsys: Capture) -> None:
    commands.check(context_of(write(GOOD)), json=True)
    out, err = capsys.readouterr()
    empty: dict[str, list[str]] = {"problems": [], "notes": [], "lists": []}
    assert json.loads(out) == {"version": "countersign.policy-check/v1", "valid": True, **empty}
    assert "1 root, 1 scope, 0 pins" in err


def test_every_problem_has_its_line(write: Write, capsys: Capture) -> None:
    path = write("pinned: [x]\nscopes: {a.b: allow}\n")
    assert "got 'allow'" in refused(2, commands.check, context_of(path))
    path = write("pinned: [x, y]\n")
    assert "2 problems" in refused(2, commands.check, context_of(path), json=True)
    out, err = capsys.readouterr()
    assert [(one["line"], one["key"]) for one in json.loads(out)["problems"]] == [(3, "pinned[0]"), (3, "pinned[1]")]
    assert err.count(f"{path}:3: pinned[") == 2


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("roots: {team: {publicKey: {files: [team.pub]}}}\n", "roots.team: no scope names it"),
        (GOOD + "revoked: {keys: [team.pub]}\n", "roots.team: all its keys are revoked"),
    ],
)
def test_what_is_hardly_meant_is_noted(write: Write, capsys: Capture, text: str, note: str) -> None:
    commands.check(context_of(write(text)))
    assert note in capsys.readouterr().err


def test_explain_in_both_forms(write: Write, capsys: Capture) -> None:
    path = write(GOOD)
    commands.explain(context_of(path), image=["r.example/app", "busybox"], json=True)
    first, second = json.loads(capsys.readouterr().out)["images"]
    assert (first["scope"], first["rule"]) == ("r.example", "anyOf: team")
    assert (second["scope"], second["rule"]) == ("", "reject")
    commands.explain(context_of(path), image=["r.example/app"])
    assert "rule: anyOf: team (r.example is the longest scope that matches)" in capsys.readouterr().err


def test_render_to_stdout_and_to_a_file(write: Write, capsys: Capture, tmp_path: Path) -> None:
    path = write(GOOD)
    commands.render(context_of(path))
    rendered = capsys.readouterr().out
    assert json.loads(rendered)["scopes"]["r.example"] == {"anyOf": ["team"]}
    commands.render(context_of(Path("/nowhere")), policy=str(path), out=str(tmp_path / "out.json"))
    assert (tmp_path / "out.json").read_text() == rendered
    assert not list(tmp_path.glob("*.new"))


def test_render_for_kyverno_says_what_it_cannot_say(write: Write, capsys: Capture) -> None:
    path = write("roots: {team: {publicKey: {files: [team.pub]}}}\nscopes: {r.example: {anyOf: [team]}}\n")
    commands.render(context_of(path), engine="kyverno")
    shown = capsys.readouterr()
    assert shown.out.startswith("# Rendered by countersign")
    assert "kind: ImageValidatingPolicy" in shown.out
    assert "a tag that moves after admission is judged at pull and at create" in shown.err
    commands.render(context_of(path), engine="kyverno-verifyimages")
    assert "kind: ClusterPolicy" in capsys.readouterr().out


def test_an_invalid_policy_renders_nothing(write: Write, capsys: Capture, tmp_path: Path) -> None:
    (tmp_path / "out.json").write_text("old")
    refused(2, commands.render, context_of(write("x: 1\n")), out=str(tmp_path / "out.json"))
    assert (tmp_path / "out.json").read_text() == "old"
    assert capsys.readouterr().out == ""


def test_bad_input_is_one_line_and_2(write: Write, tmp_path: Path) -> None:
    context = context_of(write(GOOD))
    assert "no image" in refused(2, commands.explain, context, image=[])
    assert "not an image reference" in refused(2, commands.explain, context, image=["A/B:"])
    assert "--engine" in refused(2, commands.render, context, engine="docker")
    assert "cannot be written" in refused(2, commands.render, context, out=str(tmp_path / "no" / "out"))
    assert "No such file" in refused(2, commands.check, context_of(tmp_path / "no.yaml"))
