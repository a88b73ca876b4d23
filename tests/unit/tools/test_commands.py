import json
from typing import TYPE_CHECKING

import pytest
from invoke.config import Config
from invoke.context import MockContext

from countersign.tools.commands import install, list_
from countersign.tools.inventory import inventory

if TYPE_CHECKING:
    from tests.unit.tools.conftest import Bench


@pytest.fixture
def context(bench: "Bench", monkeypatch: pytest.MonkeyPatch) -> MockContext:
    from countersign.tools import recipes

    monkeypatch.setattr("countersign.tools.inventory.recipes", recipes.recipes)
    return MockContext(Config(overrides={"cache": str(bench.settings.cache), "state": str(bench.settings.state)}))


def test_the_list_says_what_is_where(bench: "Bench", context: MockContext, capsys: pytest.CaptureFixture[str]) -> None:
    thing = bench.program("thing", "#!/bin/sh\necho 1.4.9\n")
    list_(context, json=True)
    document = json.loads(capsys.readouterr().out)
    assert document["version"] == "countersign.tools/v1"
    rows = {row["name"]: row for row in document["tools"]}
    assert rows["thing"] == {
        "name": "thing",
        "wanted": "1.5.0 (PATH: 1.4.0 to below 2)",
        "path": str(thing),
        "source": "PATH",
        "version": "1.4.9",
    }
    assert rows["ours"]["wanted"] == "as in this checkout"
    assert rows["ours"]["path"] is None
    assert bench.calls() == []


def test_the_list_for_people_goes_to_stderr(context: MockContext, capsys: pytest.CaptureFixture[str]) -> None:
    list_(context)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "not built yet" in shown.err
    assert "not on PATH: apt-get install brought-bin" in shown.err


def test_named_tools_alone_are_installed(bench: "Bench", context: MockContext) -> None:
    install(context, name=["ours"])
    assert [row.name for row in inventory(bench.settings) if row.found] == ["go", "ours"]


def test_without_names_all_that_set_up_needs_is_installed(bench: "Bench", context: MockContext) -> None:
    bench.program("gcc", "#!/bin/sh\n")
    install(context)
    missing = {row.name for row in inventory(bench.settings) if not row.found}
    assert missing == {"zig", "brought", "wheel"}
