"""The workflow that releases this project: least permissions, pinned actions, and nothing but tasks that are tested."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from countersign.console.config import ROOT
from release.load import load

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
LOGIN = 'printenv REGISTRY_TOKEN | docker login ghcr.io --username "$REGISTRY_USER" --password-stdin'


def read(name: str) -> dict[Any, Any]:
    found: dict[Any, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text())
    return found


def steps(workflow: dict[Any, Any]) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def test_it_may_do_what_it_needs_and_no_more() -> None:
    workflow = read("release.yml")
    assert workflow["permissions"] == {}
    (job,) = workflow["jobs"].values()
    assert job["permissions"] == dict.fromkeys(("contents", "packages", "id-token", "security-events"), "write")


def test_no_other_workflow_gets_a_token_that_signs() -> None:
    texts = {path.name: path.read_text() for path in WORKFLOWS}
    assert [name for name, text in texts.items() if "id-token" in text] == ["release.yml"]


def test_every_line_that_runs_is_a_task() -> None:
    from tasks import ns

    lines = [step["run"] for step in steps(read("release.yml")) if "run" in step]
    tasks = [line.split()[1] for line in lines if line != LOGIN]
    assert all(line.startswith("./inv ") for line in lines if line != LOGIN)
    assert set(tasks) <= set(ns.task_names)
    assert tasks[-1] == "release.publish"


def test_what_is_released_is_what_the_tag_says() -> None:
    lines = [step["run"] for step in steps(read("release.yml")) if "release." in step.get("run", "")]
    assert len(lines) == 3
    assert all(line.endswith(' --version "${GITHUB_REF_NAME#v}"') for line in lines)


def test_nothing_of_an_event_stands_in_a_script() -> None:
    assert not [step["run"] for step in steps(read("release.yml")) if "${{" in step.get("run", "")]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_digest(path: Any) -> None:
    used = [step["uses"] for step in steps(read(path.name)) if "uses" in step]
    assert all(re.fullmatch(r"[\w-]+/[\w/-]+@[0-9a-f]{40}", each) for each in used)


def test_release_yaml_trusts_this_workflow_at_its_tags_and_nobody_else() -> None:
    project = load(ROOT / "release.yaml")
    identity = project.identity
    assert identity is not None
    assert identity.subject == f"{project.source}/.github/workflows/release.yml@refs/tags/v*"
    workflow = read("release.yml")
    assert workflow[True]["push"]["tags"] == ["v*"]  # YAML 1.1 reads `on` so
