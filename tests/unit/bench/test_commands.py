import json

import pytest
from invoke.context import MockContext
from invoke.exceptions import Exit

from lab.bench import commands


@pytest.mark.parametrize(
    ("task", "options"), [("start", {"rounds": 0}), ("start", {"at_once": 0}), ("sign", {"rounds": -1})]
)
def test_nothing_to_measure_is_a_usage_error(task, options):
    with pytest.raises(Exit) as caught:
        getattr(commands, task)(MockContext(), **options)
    assert caught.value.code == 2
    assert "expected 1 or more" in str(caught.value.message)


def test_a_missed_goal_is_reported_and_fails_nothing(tmp_path, monkeypatch, capsys):
    way = {"title": "ours", "n": 1, "median": 9.0, "p95": 9.0, "p99": 9.0}
    goal = {"name": "both formats", "found": 9.0, "limit": 0.3, "unit": "s", "met": False}
    machine = {"cpu": "A", "cores": 1, "kernel": "6", "load": 0, "loadAfter": 0, "programs": ""}
    document = {"version": "countersign.bench-sign/v1", "machine": machine, "ways": [way], "goals": [goal]}
    monkeypatch.setattr("lab.bench.sign.measure", lambda settings, rounds: document)
    context = MockContext()
    context.config["state"] = str(tmp_path)
    commands.sign(context, rounds=1, json=True)
    assert json.loads(capsys.readouterr().out) == document
    assert json.loads((tmp_path / "report" / "bench-sign.json").read_text()) == document
    assert "✗" in (tmp_path / "report" / "bench-sign.md").read_text()
