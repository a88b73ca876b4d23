from __future__ import annotations

import json
from pathlib import Path

import pytest
from invoke.config import Config
from invoke.context import MockContext
from invoke.exceptions import Exit

from containerd.pinning import pin

PAUSE = "registry.k8s.io/pause@sha256:" + "a" * 64


@pytest.fixture
def context(tmp_path: Path) -> MockContext:
    return MockContext(config=Config(overrides={"node": "kind", "state": str(tmp_path)}))


def test_what_set_up_took_is_shown_as_lines_for_the_policy(context, tmp_path, capsys):
    (tmp_path / "kind").mkdir()
    (tmp_path / "kind" / "pins.json").write_text(json.dumps([PAUSE]))
    pin(context)
    assert capsys.readouterr().out == f"  - {PAUSE}\n"
    pin(context, json=True)
    assert json.loads(capsys.readouterr().out) == {"version": "countersign.pins/v1", "pinned": [PAUSE], "new": []}


def test_nothing_taken_is_told_with_the_way_to_it(context):
    with pytest.raises(Exit, match="set-up has taken none yet; run") as caught:
        pin(context)
    assert caught.value.code == 2
