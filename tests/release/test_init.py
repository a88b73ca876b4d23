"""A project that release.init began: released by its own workflow, and judged by the policy that came with it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from countersign.policy import gate as rendering
from countersign.policy.load import load as load_policy
from countersign.tools.resolver import tool
from lab.trials import authority
from lab.trials.authority import Authority
from release import flow, page, verifying
from release.init import write
from release.load import load
from release.made import State
from tests.release.conftest import BUILDER, HERE, Lab, git
from tests.release.test_identity import Workflow

SOURCE = "https://github.com/acme/app"
WORKFLOW = f"{SOURCE}/{write.WORKFLOW}@refs/tags/v1.2.3"
OTHER = WORKFLOW.replace("release.yml", "test.yml")


@pytest.fixture(scope="module")
def sigstore() -> Authority:
    return authority.make()


@pytest.fixture
def begun(lab: Lab, sigstore: Authority, tmp_path: Path) -> Path:
    """The small project without a release.yaml, then with all that release.init makes, which trusts our Sigstore.

    Each has repositories of its own: equal images have equal digests, and would bear each other's signatures.
    """
    folder = tmp_path / "app"
    shutil.copytree(HERE / "app", folder)
    for name in ("release.yaml", "vulnerable.yaml"):
        (folder / name).unlink()
    git(folder, "init", "-q")
    git(folder, "add", ".")
    root = folder / write.TRUSTED_ROOT
    root.parent.mkdir(parents=True)
    root.write_text(json.dumps(sigstore.trusted_root()))
    path = folder / "release.yaml"
    write.put(folder, write.plan(path, SOURCE, "0" * 40, lab.settings)[0], force=False, plan=False)
    path.write_text(
        path.read_text().replace("ghcr.io/acme", f"{lab.netloc}/{tmp_path.name.strip('_').replace('_', '-')}")
    )
    write.put(folder, write.plan(path, SOURCE, "0" * 40, lab.settings)[0], force=True, plan=False)
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "begin")
    return path


def released(lab: Lab, path: Path, signer: Workflow) -> tuple[flow.Work, State]:
    """Make all of it, stage after stage."""
    project = load(path)
    work = flow.Work(lab.settings, project, "1.2.3", project.registry, BUILDER, lambda: signer, lab.databases)
    state = flow.start(work, fresh=True)
    for name in flow.STAGES:
        state = flow.run(work, name, state)
    return work, state


def judged(lab: Lab, path: Path, image: str, scratch: Path) -> tuple[int, str]:
    """Have the gate judge an image by the policy that release.init wrote; return its exit code and its word."""
    rendered = scratch / "policy.json"
    rendered.write_bytes(rendering.render(load_policy(path.parent / "release/policies/policy.yaml")))
    argv = [str(tool("countersign-gate", lab.settings)), "verify", "--policy", str(rendered), "--json", image]
    ended = subprocess.run(argv, capture_output=True, text=True, check=False)
    return ended.returncode, json.loads(ended.stdout)["code"] if ended.stdout else ended.stderr


def by_cosign(lab: Lab, commands: Sequence[str]) -> int:
    """Run the first command that is printed, for the checksums, as it stands; return its exit code."""
    go_there, first = commands[:2]
    assert "--certificate-identity-regexp" in first
    environment = {"PATH": f"{tool('cosign', lab.settings).parent}:/usr/bin:/bin", "HOME": "/nonexistent"}
    return subprocess.run(["sh", "-c", f"{go_there} && {first}"], env=environment, check=False).returncode


def test_it_is_released_and_verified_and_the_gate_takes_its_image(
    lab: Lab, begun: Path, sigstore: Authority, tmp_path: Path
) -> None:
    work, state = released(lab, begun, Workflow(sigstore, WORKFLOW))
    trusted = verifying.trusted(work.project, "")
    found = verifying.verify(
        lab.settings, work.project, "1.2.3", verifying.Place(work.folder.files), trusted, tags=False
    )
    assert found.check() == state.release
    image, chart = state.release.images
    assert set(image.platforms) == {"linux/amd64", "linux/arm64"}
    assert chart.name == "app-chart"
    assert judged(lab, begun, f"{image.repository}@{image.digest}", tmp_path) == (0, "OK")
    assert by_cosign(lab, found.commands) == 0


def test_signed_by_another_workflow_it_is_refused_by_both(
    lab: Lab, begun: Path, sigstore: Authority, tmp_path: Path
) -> None:
    work, state = released(lab, begun, Workflow(sigstore, OTHER))
    trusted = verifying.trusted(work.project, "")
    found = verifying.verify(
        lab.settings, work.project, "1.2.3", verifying.Place(work.folder.files), trusted, tags=False
    )
    assert [(each.what, each.reason) for each in found.findings if each.reason] == [("SHA256SUMS", "wrong-identity")]
    assert by_cosign(lab, page.commands(state.release, trusted, work.folder.files, tags=False)) == 1
    image = state.release.images[0]
    assert judged(lab, begun, f"{image.repository}@{image.digest}", tmp_path) == (1, "WRONG_IDENTITY")
