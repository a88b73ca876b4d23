"""The loop: countersign released here, installed from its package on a fresh Debian, judges its own image."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from countersign.oci import layout
from countersign.oci.reference import parse
from lab.trials import authority
from lab.trials.authority import Authority
from release import flow, verifying
from release.made import State, read_state
from release.trust import ByIdentity
from signing import sign as signing
from tests.release.conftest import Lab
from tests.release.test_identity import Workflow

TAG = "https://github.com/countersign/countersign/.github/workflows/release.yml@refs/tags/v"


@pytest.fixture(scope="module")
def sigstore() -> Authority:
    return authority.make()


@pytest.fixture(scope="module")
def released(own: flow.Work, sigstore: Authority) -> State:
    """countersign, released as its own workflow does it."""
    signer = Workflow(sigstore, f"{TAG}{own.version}")
    work, state = replace(own, signer=lambda: signer), read_state(own.folder)
    assert state is not None
    for name in list(flow.STAGES)[1:]:
        state = flow.run(work, name, state)
    return state


@pytest.fixture(scope="module")
def trusted(own: flow.Work, sigstore: Authority, tmp_path_factory: pytest.TempPathFactory) -> ByIdentity:
    """The identity of release.yaml, as our Sigstore tells it."""
    identity = own.project.identity
    assert identity is not None
    root = tmp_path_factory.mktemp("trusted") / "trusted_root.json"
    root.write_text(json.dumps(sigstore.trusted_root()))
    return ByIdentity(identity.issuer, identity.subject, root)


@pytest.fixture(scope="module")
def debian(lab: Lab, own: flow.Work, released: State, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A fresh Debian in a folder, with the released package and nothing else of ours."""
    if os.geteuid() != 0:
        pytest.skip("it needs root, to install a package in a fresh Debian")
    kept = sorted((lab.settings.cache / "boxes").glob("root-*.tar"))
    if not kept:
        pytest.skip("no fresh Debian is kept here: ./inv vagrant.box makes one")
    folder = tmp_path_factory.mktemp("debian")
    subprocess.run(["tar", "xf", str(kept[-1]), "-C", str(folder), "--strip-components=2", "./rootfs"], check=True)
    assert not (folder / "usr/bin/countersign-gate").exists()
    (package,) = [each.name for each in released.release.files if each.name.endswith("_amd64.deb")]
    (folder / "root" / package).write_bytes(own.folder.file(package).read_bytes())
    installed = inside(folder, "dpkg", "-i", f"/root/{package}")
    assert installed.returncode == 0, installed.stderr
    yield folder
    subprocess.run(["rm", "-rf", "--one-file-system", str(folder)], check=True)


def inside(debian: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a program in that Debian."""
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "NO_PROXY": "127.0.0.1"}
    argv = ["chroot", str(debian), *words]
    return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)


def judged(debian: Path, trusted: ByIdentity, repository: str, digest: str) -> str:
    """Have the installed gate judge an image by a policy with the release's identity; return its word."""
    options = trusted.image(repository, debian / "root")
    policy = f"/{Path(options[1]).relative_to(debian)}"
    ended = inside(debian, "countersign-gate", "verify", "--policy", policy, "--json", f"{repository}@{digest}")
    code: str = json.loads(ended.stdout)["code"]
    assert ended.returncode == (0 if code == "OK" else 1), ended.stderr
    return code


def test_the_release_verifies_by_its_identity(lab: Lab, own: flow.Work, released: State, trusted: ByIdentity) -> None:
    place = verifying.Place(own.folder.files)
    found = verifying.verify(lab.settings, own.project, own.version, place, trusted, tags=False)
    assert found.check() == released.release


def test_what_is_installed_is_what_was_released(debian: Path, own: flow.Work) -> None:
    for name in ("countersign-gate", "countersign-hook"):
        built = own.folder.file(f"{name}-{own.version}-linux-amd64")
        assert (debian / "usr/bin" / name).read_bytes() == built.read_bytes()
    assert own.version in inside(debian, "countersign-gate", "version").stdout
    assert "ExecStart=/usr/bin/countersign-gate " in (
        debian / "usr/lib/systemd/system/countersign-gate.service"
    ).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("workflow", "code"),
    [("release.yml@refs/tags/v", "OK"), ("test.yml@refs/tags/v", "WRONG_IDENTITY")],
)
def test_the_installed_gate_judges_its_own_image_by_who_released_it(
    lab: Lab, own: flow.Work, released: State, debian: Path, trusted: ByIdentity, sigstore: Authority,
    workflow: str, code: str,
) -> None:  # fmt: skip
    image = next(each for each in released.release.images if each.name == "countersign-gate")
    repository = f"{lab.netloc}/{workflow.split('.', maxsplit=1)[0]}/countersign-gate"
    layout.push(lab.client, repository, own.folder.layout(image.name), image.digest)
    signer = Workflow(sigstore, TAG.replace("release.yml@refs/tags/v", workflow) + own.version)
    for target in signing.targets(lab.client, parse(f"{repository}@{image.digest}")):
        signer.image(lab.client, repository, target, ("attachment", "bundle"))
    assert judged(debian, trusted, repository, image.digest) == code


def test_the_image_of_the_release_is_allowed(released: State, debian: Path, trusted: ByIdentity) -> None:
    image = next(each for each in released.release.images if each.name == "countersign-gate")
    assert judged(debian, trusted, image.repository, image.digest) == "OK"
