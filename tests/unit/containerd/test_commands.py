from __future__ import annotations

import json
from pathlib import Path

import pytest
from invoke.config import Config
from invoke.context import MockContext
from invoke.exceptions import Exit

from containerd import commands


@pytest.fixture
def context(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> MockContext:
    """Of a user with a policy that names no key, for the checkout's own keys may not be made yet."""
    policy = tmp_path_factory.mktemp("policy") / "policy.yaml"
    policy.write_text("apiVersion: countersign/v1\ndefault: reject\n")
    overrides = {"node": "host", "state": str(tmp_path / "s"), "keys": str(tmp_path / "keys"), "policy": str(policy)}
    return MockContext(config=Config(overrides=overrides))


def test_nothing_set_up_is_all_down(context, capsys):
    with pytest.raises(Exit, match=r"not enforcing; run \./inv containerd\.setup") as caught:
        commands.status(context, json=True)
    assert caught.value.code == 4
    found = json.loads(capsys.readouterr().out)
    assert (found["version"], found["ok"]) == ("countersign.containerd-status/v2", False)
    assert {entry["state"] for entry in found["services"]} == {"stopped"}
    assert [bool(each["error"] and each["policyError"]) for each in found["runtimes"]] == [True]


def test_set_up_needs_root_and_says_so_before_it_does_anything(context, monkeypatch, tmp_path):
    monkeypatch.setattr("countersign.runtimes.private.os.geteuid", lambda: 1000)
    with pytest.raises(Exit, match="containerd needs root; run it as root") as caught:
        commands.setup(context)
    assert caught.value.code == 3
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", [commands.setup, commands.status, commands.logs, commands.clean])
def test_a_place_of_no_kind_is_refused(context, verb):
    with pytest.raises(Exit, match="got 'kinf'; expected host, kind") as caught:
        verb(context, on="kinf")
    assert caught.value.code == 2


def test_a_state_folder_that_is_too_deep_is_refused(tmp_path):
    context = MockContext(config=Config(overrides={"node": "host", "state": f"/tmp/{'x' * 100}"}))
    with pytest.raises(Exit, match="set INVOKE_STATE to a shorter folder") as caught:
        commands.setup(context)
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("name", "told"), [("kubelet", "expected .*gate, containerd, verdicts"), ("gate", "no such log")]
)
def test_a_log_that_is_not_there_is_told(context, name, told):
    with pytest.raises(Exit, match=told) as caught:
        commands.logs(context, name=name)
    assert caught.value.code == 2


def test_the_end_of_a_log_is_printed(context, capsys, tmp_path):
    log = tmp_path / "s" / "host" / "log" / "verdicts.jsonl"
    log.parent.mkdir(parents=True)
    log.write_text("1\n2\n3\n")
    commands.logs(context, name="verdicts", lines=2)
    assert capsys.readouterr().out == "2\n3\n"


def test_clean_of_something_needs_root(context, monkeypatch, tmp_path):
    monkeypatch.setattr("countersign.enforcement.teardown.os.geteuid", lambda: 1000)
    (tmp_path / "s" / "host").mkdir(parents=True)
    with pytest.raises(Exit, match="this needs root") as caught:
        commands.clean(context)
    assert caught.value.code == 3
    assert (tmp_path / "s" / "host").exists()


def test_clean_of_nothing_is_no_error(context, capsys):
    commands.clean(context)
    assert "0 changed" in capsys.readouterr().err
