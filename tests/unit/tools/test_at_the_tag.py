"""Which checkouts take the release that they are exactly, and which programs on PATH stand for one."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from countersign.console.errors import VerdictError
from countersign.tools import recipes
from countersign.tools.inventory import inventory
from countersign.tools.resolver import find, install, tool
from tests.unit.tools.published import GATE, Published, commit, git, says
from tests.unit.tools.test_released import NOT_THE_RELEASE

if TYPE_CHECKING:
    from tests.unit.tools.conftest import Bench


def test_a_checkout_at_the_tag_takes_its_release(
    bench: Bench, at_the_tag: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tool("app-gate", at_the_tag.settings).read_bytes() == at_the_tag.files[GATE]
    assert bench.calls() == []
    monkeypatch.setattr("countersign.tools.inventory.recipes", recipes.recipes)
    (row,) = (row.document() for row in inventory(at_the_tag.settings) if row.name == "app-gate")
    assert (row["wanted"], row["source"], row["version"]) == ("v1.2.3 as released", "release", "1.2.3")


def ahead(bench: Bench) -> None:
    commit(bench)


def untagged(bench: Bench) -> None:
    git(bench, "tag", "--delete", "v1.2.3")


def changed(bench: Bench) -> None:
    (bench.folder / "ours" / "main.go").write_text("package main // mine")


def added(bench: Bench) -> None:
    (bench.folder / "ours" / "more.go").write_text("package main")


def ignored(bench: Bench) -> None:
    (bench.folder / ".git" / "info" / "exclude").write_text("more.go\n")
    added(bench)


def of_another_version(bench: Bench) -> None:
    (bench.folder / "pyproject.toml").write_text('[project]\nversion = "1.3.0"\n')


def without_git(bench: Bench) -> None:
    shutil.rmtree(bench.folder / ".git")


def without_version(bench: Bench) -> None:
    (bench.folder / "pyproject.toml").unlink()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (ahead, "this checkout is not at the tag v1.2.3"),
        (untagged, "there is no tag v1.2.3"),
        (changed, "ours/main.go is not as in the tag v1.2.3"),
        (added, "ours/more.go is not as in the tag v1.2.3"),
        (ignored, "ours/more.go is not as in the tag v1.2.3"),
        (of_another_version, "there is no tag v1.3.0"),
        (without_git, "this is not a git checkout of its own"),
        (without_version, "this checkout has no version"),
    ],
)
def test_any_other_checkout_builds_and_says_why(
    bench: Bench,
    at_the_tag: Published,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[Bench], None],
    why: str,
) -> None:
    change(bench)
    assert tool("app-gate", at_the_tag.settings).read_text() == "native\n"
    assert f"gate is built: {why}\n" in capsys.readouterr().err
    assert at_the_tag.asked() == []


@pytest.mark.parametrize("kind", ["another workflow", "no bundle", "another program"])
def test_at_the_tag_too_what_is_not_the_release_is_refused_and_nothing_built(
    bench: Bench, at_the_tag: Published, kind: str
) -> None:
    NOT_THE_RELEASE[kind][0](at_the_tag)
    with pytest.raises(VerdictError, match="refused: "):
        tool("app-gate", at_the_tag.settings)
    assert bench.calls() == []


def test_a_change_elsewhere_is_none_of_the_program(bench: Bench, at_the_tag: Published) -> None:
    (bench.folder / "README.md").write_text("mine")
    assert tool("app-gate", at_the_tag.settings).read_bytes() == at_the_tag.files[GATE]


def test_none_builds_at_the_tag_too(bench: Bench, at_the_tag: Published) -> None:
    assert tool("app-gate", at_the_tag.with_tools(gate_release="none")).read_text() == "native\n"
    assert at_the_tag.asked() == []


def test_offline_at_the_tag_builds_and_says_so(at_the_tag: Published, capsys: pytest.CaptureFixture[str]) -> None:
    assert tool("app-gate", dataclasses.replace(at_the_tag.settings, offline=True)).read_text() == "native\n"
    assert "the release v1.2.3 is not to be had: the network may not be used" in capsys.readouterr().err


def test_one_on_path_serves_if_it_is_that_very_release(bench: Bench, published: Published) -> None:
    gate = bench.program("app-gate", says("app-gate 1.2.3").decode())
    hook = bench.program("app-hook", "#!/bin/sh\n")
    assert install(["app-gate", "app-hook"], published.settings) == {"app-gate": gate, "app-hook": hook}
    assert published.asked() == []
    found = find("app-gate", published.settings)
    assert found
    assert (found.version, found.source) == ("1.2.3", "PATH")


def of_the_release_before(bench: Bench) -> None:
    bench.program("app-gate", says("app-gate 1.2.2").decode())


def alone(bench: Bench) -> None:
    (bench.folder / "bin" / "app-hook").unlink()


def not_to_be_run(bench: Bench) -> None:
    (bench.folder / "bin" / "app-hook").chmod(0o644)


@pytest.mark.parametrize("change", [of_the_release_before, alone, not_to_be_run])
def test_any_other_on_path_is_passed_over(bench: Bench, published: Published, change: Callable[[Bench], None]) -> None:
    bench.program("app-gate", says("app-gate 1.2.3").decode())
    bench.program("app-hook", "#!/bin/sh\n")
    change(bench)
    assert tool("app-gate", published.settings).is_relative_to(bench.settings.cache)


def test_without_a_wish_for_a_release_path_does_not_count(bench: Bench) -> None:
    bench.program("app-gate", says("app-gate 1.2.3").decode())
    bench.program("app-hook", "#!/bin/sh\n")
    assert tool("app-gate", bench.settings).read_text() == "native\n"


def test_the_path_of_a_release_does_not_change_what_is_built() -> None:
    gate = recipes.read_recipes(recipes.VERSIONS)["gate"]
    assert gate.released
    assert dataclasses.replace(gate, released=None).key() == gate.key()
