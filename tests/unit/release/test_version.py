"""What has to hold before a release, each broken once."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from countersign.console.config import ROOT
from countersign.console.errors import UsageError
from release import version
from release.load import load
from tests.unit.release.conftest import git


def prepare(project: Path, wanted: str = "1.2.3") -> str:
    return version.prepare(load(project / "release.yaml"), wanted).id


def test_a_clean_tree_can_be_released(project: Path) -> None:
    assert prepare(project) == git(project, "rev-parse", "HEAD")


@pytest.mark.parametrize("text", ["1.2.3", "0.0.1", "1.2.3-rc.1", "10.20.30-alpha-1"])
def test_a_semantic_version_is_good(text: str) -> None:
    assert version.check(text) == text


@pytest.mark.parametrize("text", ["v1.2.3", "1.2", "1.2.3+build", "01.2.3", "1.2.3-01", "latest", "1.2.3\n", "1.2.x"])
def test_what_is_no_semantic_version_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"expected a version as 1\.2\.3"):
        version.check(text)


def test_a_v_is_told_apart() -> None:
    with pytest.raises(UsageError, match=r"leave out the v: 1\.2\.3"):
        version.check("v1.2.3")


@pytest.mark.parametrize("text", ["1.2.3+build.7", "v1.2.3+build.7"])
def test_build_metadata_is_told_apart(text: str) -> None:
    with pytest.raises(UsageError, match=r"leave out \+build\.7, which no image tag can have: 1\.2\.3"):
        version.check(text)


def test_another_version_than_the_projects_is_refused(project: Path) -> None:
    with pytest.raises(UsageError, match=r"has version 1\.2\.3; expected 1\.2\.2"):
        prepare(project, "1.2.2")


def test_what_is_not_committed_is_refused(project: Path) -> None:
    (project / "new").write_text("")
    with pytest.raises(UsageError, match="new not committed"):
        prepare(project)
    (project / "new").rename(project / "nä me")
    with pytest.raises(UsageError, match="app: nä me not committed"):
        prepare(project)
    (project / "nä me").unlink()
    assert prepare(project)


def test_a_tag_at_another_commit_is_refused_and_one_at_this_commit_is_not(project: Path) -> None:
    git(project, "tag", "v1.2.3")
    assert prepare(project)
    git(project, "commit", "-q", "--allow-empty", "-m", "more")
    with pytest.raises(UsageError, match=r"tag v1\.2\.3: is there already"):
        prepare(project)


def test_a_version_without_its_section_in_the_changelog_is_refused(project: Path) -> None:
    changelog = project / "CHANGELOG.md"
    assert version.notes(changelog, "1.2.3") == "- a thing"
    changelog.write_text(changelog.read_text().replace("## 1.2.3", "## 1.2.30"))
    git(project, "commit", "-qam", "other")
    with pytest.raises(UsageError, match=r"has nothing about 1\.2\.3"):
        prepare(project)


def test_outside_of_git_there_is_nothing_to_release(project: Path) -> None:
    (project / ".git").rename(project.parent / "gone")
    with pytest.raises(UsageError, match="not in a git repository"):
        prepare(project)


def test_a_pre_release_does_not_move_major_minor() -> None:
    assert version.tags("1.2.3", "abcdef0123456789") == ("1.2.3", "1.2", "sha-abcdef012345")
    assert version.tags("1.2.3-rc.1", "abcdef0123456789") == ("1.2.3-rc.1", "sha-abcdef012345")


def test_the_chart_has_the_version_that_is_released() -> None:
    chart = yaml.safe_load((ROOT / "rollout" / "chart" / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == version.own(load(ROOT / "release.yaml"))
