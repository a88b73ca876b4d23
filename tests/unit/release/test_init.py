"""release.init: what it finds in a repository, what it writes, and what it leaves as it is."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml

from countersign.console.config import Settings
from countersign.console.errors import UsageError
from countersign.policy import gate as rendering
from countersign.policy.explain import explain
from countersign.policy.load import load as load_policy
from release.init import write
from release.load import load
from release.model import Project
from tests.unit.release.conftest import git

pytestmark = pytest.mark.usefixtures("echoing_gate")
COUNTERSIGN = "0123456789abcdef0123456789abcdef01234567"
SOURCE = "https://github.com/Acme/App"
SUBJECT = f"{SOURCE}/.github/workflows/release.yml@refs/tags/v*"


@pytest.fixture
def new(project: Path) -> Path:
    """A repository on GitHub that has no release.yaml yet."""
    git(project, "rm", "-q", "release.yaml")
    git(project, "commit", "-qm", "no release.yaml")
    git(project, "remote", "add", "origin", f"{SOURCE}.git")
    return project


def made(folder: Path, *, source: str = "", force: bool = False, plan: bool = False) -> list[str]:
    files, _ = write.plan(folder / "release.yaml", source, COUNTERSIGN, Settings())
    return write.put(folder, files, force=force, plan=plan)


def add_chart(folder: Path, name: str, values: str) -> None:
    chart = folder / "deploy"
    chart.mkdir()
    (chart / "Chart.yaml").write_text(f"apiVersion: v2\nname: {name}\nversion: 1.2.3\n")
    (chart / "values.yaml").write_text(values)
    git(folder, "add", ".")


def test_what_it_writes_is_a_project_signed_by_its_own_workflow(new: Path) -> None:
    made(new)
    found = load(new / "release.yaml")
    assert (found.name, found.source, found.registry) == ("app", SOURCE, "ghcr.io/acme")
    assert [(each.name, each.folder, each.package) for each in found.programs] == [("app", ".", ".")]
    assert found.identity is not None
    assert (found.identity.issuer, found.identity.subject) == (write.ISSUER, SUBJECT)
    assert found.changelog == new / "CHANGELOG.md"
    assert found.version_file == new / "pyproject.toml"


def test_the_policies_ask_for_that_workflow_and_say_what_they_cannot_judge(new: Path) -> None:
    _, notes = write.plan(new / "release.yaml", "", COUNTERSIGN, Settings())
    made(new)
    policy = load_policy(new / "release/policies/policy.yaml")
    ours, other = (explain(policy, f"ghcr.io/{name}:1.2.3") for name in ("acme/app", "acme/other"))
    assert [str(each) for each in ours.identities.values()] == [f"keyless {SUBJECT} (issuer {write.ISSUER})"]
    assert (ours.rule.kind, other.rule.kind) == ("anyOf", "reject")
    assert list(dict.fromkeys(line.split(":")[0] for line in notes)) == ["kyverno.yaml", "crio.json", "gatekeeper.yaml"]
    assert all("by the gate alone" in line or "at pull and at create" in line for line in notes)


def test_gatekeepers_policy_has_the_gates_own_document(new: Path) -> None:
    made(new)
    documents = list(yaml.safe_load_all((new / "release/policies/gatekeeper.yaml").read_text()))
    assert [each["kind"] for each in documents] == ["ConfigMap", "ConstraintTemplate", "CountersignImages"]
    assert rendering.render(load_policy(new / "release/policies/policy.yaml")).decode() in documents[0]["data"].values()


def test_the_workflow_may_do_what_it_needs_and_runs_tasks_only(new: Path) -> None:
    made(new)
    text = (new / write.WORKFLOW).read_text()
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {}
    (job,) = workflow["jobs"].values()
    assert job["permissions"] == dict.fromkeys(("contents", "packages", "id-token", "security-events"), "write")
    lines = [each["run"] for each in job["steps"] if "run" in each]
    tasks = [line.split()[1] for line in lines if line.startswith("countersign/inv ")]
    assert tasks == ["release.prepare", "release.all", "release.publish"]
    assert len(lines) == len(tasks) + 1
    assert not [line for line in lines if "${{" in line]
    used = [each["uses"] for each in job["steps"] if "uses" in each]
    assert all(re.fullmatch(r"[\w-]+/[\w/-]+@[0-9a-f]{40}", each) for each in used)
    assert f"ref: {COUNTERSIGN}\n" in text


def test_a_second_time_it_writes_nothing(new: Path) -> None:
    assert len(made(new)) == 8
    assert made(new) == []


def test_what_somebody_changed_is_only_written_over_by_force(new: Path) -> None:
    made(new)
    policy, workflow = new / "release/policies/policy.yaml", new / write.WORKFLOW
    good = policy.read_bytes()
    policy.write_text("mine")
    workflow.unlink()
    with pytest.raises(UsageError, match=r"policy\.yaml is there already, and differs; --force writes over it"):
        made(new)
    assert policy.read_text() == "mine"
    assert not workflow.exists()
    assert set(made(new, force=True)) == {"release/policies/policy.yaml", write.WORKFLOW}
    assert policy.read_bytes() == good


def test_a_release_yaml_that_is_there_is_kept_and_the_rest_follows_from_it(new: Path) -> None:
    made(new)
    path = new / "release.yaml"
    text = path.read_text().replace("registry: ghcr.io/acme", "registry: registry.example/team")
    path.write_text(text)
    wrote = made(new, force=True)
    assert path.read_text() == text
    assert set(wrote) == {
        f"release/policies/{name}" for name in ("policy.yaml", "kyverno.yaml", "gatekeeper.yaml", "crio.json")
    }
    assert "registry.example/team/app: {anyOf: [release]}" in (new / "release/policies/policy.yaml").read_text()


def test_a_plan_writes_nothing(new: Path) -> None:
    assert len(made(new, plan=True)) == 8
    assert git(new, "status", "--porcelain") == ""


def test_a_chart_called_as_the_project_does_not_meet_its_image(new: Path) -> None:
    add_chart(new, "app", 'image:\n  repository: ""\n  digest: ""\n')
    made(new)
    found = load(new / "release.yaml")
    assert found.chart is not None
    assert (found.chart.name, found.chart.image, found.images[0].name) == ("app", "app-image", "app-image")


def test_a_chart_without_a_place_for_a_digest_is_released_without_one(new: Path) -> None:
    add_chart(new, "other", 'image:\n  repository: ""\n  tag: latest\n')
    made(new)
    found = load(new / "release.yaml")
    assert found.chart is not None
    assert (found.chart.name, found.chart.image) == ("other", "")


@pytest.mark.parametrize(
    "remote",
    ["git@github.com:Acme/App.git", "ssh://git@github.com/Acme/App.git", "https://github.com/Acme/App/", SOURCE],
)
def test_the_source_is_githubs_own_spelling(new: Path, remote: str) -> None:
    git(new, "remote", "set-url", "origin", remote)
    made(new)
    assert load(new / "release.yaml").source == SOURCE


@pytest.mark.parametrize(
    "source",
    [
        "https://gitlab.com/acme/app",
        "http://github.com/acme/app",
        "https://github.com/acme",
        "git@evil.example:a/b",
        "https://github.com.evil.example/acme/app",
        "https://github.com/acme/app/tree/main",
        "https://github.com/*/app",
    ],
)
def test_an_identity_that_is_not_githubs_is_not_made_up(new: Path, source: str) -> None:
    with pytest.raises(UsageError, match=r"--source: got .*; expected --source https://github\.com/OWNER/NAME"):
        made(new, source=source)
    assert not (new / "release").exists()


def test_a_release_signed_by_a_key_has_no_workflow_to_trust(project: Path) -> None:
    with pytest.raises(UsageError, match=r"release\.yaml: sign: names a key; expected the identity https://"):
        made(project)
    assert not (project / ".github").exists()


def test_a_folder_without_programs_or_git_is_named(new: Path) -> None:
    git(new, "rm", "-q", "-f", "main.go")
    with pytest.raises(UsageError, match=r"no Go program \(package main below a go\.mod\) is there"):
        made(new)
    shutil.rmtree(new / ".git")
    with pytest.raises(UsageError, match=r"is not in a git repository; git init"):
        made(new)


def test_in_a_folder_of_a_repository_the_workflow_lies_at_the_repositorys_root(new: Path) -> None:
    """GitHub reads no other one."""
    folder = new / "services" / "app"
    folder.mkdir(parents=True)
    for name in ("go.mod", "main.go"):
        git(new, "mv", name, f"services/app/{name}")
    made(folder)
    assert not (folder / ".github").exists()
    text = (new / write.WORKFLOW).read_text()
    assert text.count(" --project project/services/app/release.yaml") == text.count(" --project ") == 3
    assert load(folder / "release.yaml").identity is not None
    assert made(folder) == []


@pytest.mark.parametrize(("name", "says"), [("a-b", ""), ("a..b", "got 'a..b'"), ("Uπ", "got 'uπ'")])
def test_what_no_image_can_be_called_is_told_before_anything_is_written(new: Path, name: str, says: str) -> None:
    (new / "cmd" / name).mkdir(parents=True)
    (new / "cmd" / name / "main.go").write_text("package main\n\nfunc main() {}\n")
    git(new, "add", ".")
    if not says:
        assert "a-b" in [each.name for each in load_made(new).programs]
        return
    with pytest.raises(UsageError, match=f"{says}; expected a name that a registry takes"):
        made(new)
    assert not (new / "release").exists()


def load_made(folder: Path) -> Project:
    made(folder)
    return load(folder / "release.yaml")
