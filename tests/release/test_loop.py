"""The loop: countersign released here, installed from its packages on fresh machines, judges its own image."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from countersign.console.config import ROOT
from countersign.cri.errors import CriError
from countersign.oci import layout
from countersign.oci.reference import parse
from countersign.tools.resolver import install
from lab.trials import authority
from lab.trials.authority import Authority
from release import flow, git, packages, verifying
from release.made import Image, State, read_state
from release.trust import ByIdentity, rendered
from signing import sign as signing
from tests.release.conftest import Lab
from tests.release.machine import UNIT, Fresh, fresh
from tests.release.test_identity import Workflow

TAG = "https://github.com/countersign/countersign/.github/workflows/release.yml@refs/tags/v"
pytestmark = pytest.mark.timeout(600)  # the first is given a whole release, another one a machine


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


def signed_by(lab: Lab, own: flow.Work, released: State, sigstore: Authority, workflow: str) -> str:
    """Push the gate's image, signed by a workflow of ours at the release's tag; return its name by digest."""
    image = gates_image(released)
    repository = f"{lab.netloc}/{workflow.partition('.')[0]}/countersign-gate"
    layout.push(lab.client, repository, own.folder.layout(image.name), image.digest)
    signer = Workflow(sigstore, TAG.replace("release.yml", workflow) + own.version)
    for target in signing.targets(lab.client, parse(f"{repository}@{image.digest}")):
        signer.image(lab.client, repository, target, ("attachment", "bundle"))
    return f"{repository}@{image.digest}"


def gates_image(released: State) -> Image:
    return next(each for each in released.release.images if each.name == "countersign-gate")


@pytest.mark.parametrize(("workflow", "code"), [("release.yml", "OK"), ("test.yml", "WRONG_IDENTITY")])
def test_the_installed_gate_judges_its_own_image_by_who_released_it(
    lab: Lab, own: flow.Work, released: State, debian: Path, trusted: ByIdentity, sigstore: Authority,
    workflow: str, code: str,
) -> None:  # fmt: skip
    repository, _, digest = signed_by(lab, own, released, sigstore, workflow).partition("@")
    assert judged(debian, trusted, repository, digest) == code


def test_the_image_of_the_release_is_allowed(released: State, debian: Path, trusted: ByIdentity) -> None:
    image = gates_image(released)
    assert judged(debian, trusted, image.repository, image.digest) == "OK"


@pytest.fixture(scope="module")
def machine(lab: Lab, released: State, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fresh]:
    """A fresh machine with systemd and containerd."""
    with fresh(lab.settings, lab.netloc, tmp_path_factory.mktemp("machine")) as made:
        yield made


def package(own: flow.Work, packager: str) -> Path:
    ending = {"deb": "_amd64.deb", "rpm": ".x86_64.rpm"}[packager]
    (found,) = own.folder.files.glob(f"countersign-gate*{ending}")
    return found


@pytest.fixture(scope="module")
def old(lab: Lab, own: flow.Work, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same packages of an older version, with the programs that are built here: packager → file."""
    programs = {"linux/amd64": install(("countersign-gate", "countersign-hook"), lab.settings)}
    shelf = packages.Shelf(own.project, "0.0.1", git.head(ROOT), ROOT, programs)
    folder, (described,) = tmp_path_factory.mktemp("old"), own.project.packages
    made = {}
    for packager in ("deb", "rpm"):
        made[packager] = folder / packages.file_name(described, shelf.version, "linux/amd64", packager)
        packages.make(lab.settings, shelf, described, packager, "linux/amd64", made[packager])
    return made


@pytest.fixture(params=["deb", "rpm"])
def packager(request: pytest.FixtureRequest, machine: Fresh) -> str:
    """Each of them, on a machine that can install it."""
    kind: str = request.param
    if kind == "rpm" and machine.sh("command -v rpm", check=False).code:
        machine.bring("rpm")
    return kind


def test_a_package_starts_nothing_and_leaves_nothing(machine: Fresh, own: flow.Work, packager: str) -> None:
    before = machine.listed()
    machine.install(package(own, packager))
    assert own.version in machine.sh("countersign-gate version").text
    asked = f"systemctl show --property=LoadState,ActiveState,UnitFileState --value {UNIT}"
    assert sorted(machine.sh(asked).text.split()) == ["disabled", "inactive", "loaded"]
    machine.remove(packager)
    assert machine.listed() == before


@pytest.fixture(scope="module")
def enforced(machine: Fresh, lab: Lab, old: dict[str, Path], released: State, trusted: ByIdentity) -> str:
    """The machine with the older package, enforcing the release's identity; what lay there before all that."""
    before = machine.listed()
    machine.install(old["deb"])
    keyless = {"issuer": trusted.issuer, "subject": trusted.subject, "trustedRoot": str(trusted.trusted_root)}
    _, policy = rendered({"keyless": keyless}, lab.netloc, machine.scratch / "policy.json")
    machine.node.put(Path(policy), "/root/policy.json")
    done = json.loads(machine.sh(f"{INSTALL} --policy /root/policy.json --image {own_image(released)}").text)
    assert done["receipt"]["proven"] == {"refuse": True, "allow": True}
    machine.sh("cp -a /etc/countersign /root/kept")
    return before


INSTALL = "/usr/bin/countersign-gate install --json"


def own_image(released: State) -> str:
    image = gates_image(released)
    return f"{image.repository}@{image.digest}"


def test_the_gate_of_the_package_enforces_and_lets_its_own_image_in(
    lab: Lab, own: flow.Work, released: State, sigstore: Authority, machine: Fresh, enforced: str
) -> None:
    assert machine.sh(f"systemctl is-active {UNIT}; systemctl is-enabled {UNIT}").text.split() == ["active", "enabled"]
    machine.sh("countersign-gate doctor")
    machine.sh(f"countersign-gate prove --image {own_image(released)}")
    machine.start(own_image(released))
    other = signed_by(lab, own, released, sigstore, "test.yml")
    with pytest.raises(CriError, match=r"countersign: refused \S+: WRONG_IDENTITY:"):
        machine.start(other)
    # past what verifies at pull
    machine.sh(f"ctr -n k8s.io images pull --local --hosts-dir /etc/containerd/certs.d {other}")
    with pytest.raises(CriError, match=r"countersign: refused \S+: WRONG_IDENTITY:"):
        machine.start(other, pull=False)
    machine.start(signed_by(lab, own, released, sigstore, "release.yml"))


def test_a_newer_package_keeps_the_policy_and_refuses_nothing_meanwhile(
    own: flow.Work, released: State, machine: Fresh, old: dict[str, Path], enforced: str
) -> None:
    policy, image = machine.sh("sha256sum /etc/countersign/policy.json").text, own_image(released)
    assert machine.runs() == (machine.sh("/usr/bin/countersign-gate version").text)
    started, over = [], Event()

    def starts() -> None:
        while not over.is_set():
            machine.start(image)
            started.append(image)

    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(starts)
        try:
            said = machine.install(package(own, "deb"))
            assert "goes on by /usr/local/bin/countersign-gate, another version" in said
            assert own.version not in machine.runs()
            again = json.loads(machine.sh(f"{INSTALL} --policy /etc/countersign/policy.json --image {image}").text)
        finally:
            over.set()
        starting.result()
    assert started
    assert own.version in machine.runs()
    assert [each["step"] for each in again["steps"] if each["changed"]] == [
        "programs in /usr/local/bin", "the gate runs as countersign-gate.service",
    ]  # fmt: skip
    assert machine.sh("sha256sum /etc/countersign/policy.json").text == policy


def test_a_package_that_is_removed_takes_no_enforcement_with_it(
    lab: Lab, own: flow.Work, released: State, sigstore: Authority, machine: Fresh, enforced: str
) -> None:
    done = machine.remove("deb")
    assert "this node stays enforced, by /usr/local/bin/countersign-gate" in done.text + done.stderr.decode()
    with pytest.raises(CriError, match=r"countersign: refused \S+: WRONG_IDENTITY:"):
        machine.start(signed_by(lab, own, released, sigstore, "test.yml"))
    machine.start(own_image(released))
    machine.sh("/usr/local/bin/countersign-gate uninstall")
    assert machine.listed() == enforced


def test_a_gate_that_runs_from_its_package_is_upgraded_without_a_gap_and_not_removed(
    own: flow.Work, machine: Fresh, old: dict[str, Path], enforced: str, packager: str
) -> None:
    machine.install(old[packager])
    machine.sh(f"cp -a /root/kept /etc/countersign && systemctl start {UNIT}")
    first = machine.pid()
    assert first
    machine.install(package(own, packager))
    machine.sh(
        f"for i in $(seq 250); do [ $(systemctl show -P MainPID {UNIT}) = {first} ] || exit 0; sleep .1; done; exit 1"
    )
    assert own.version in machine.runs()
    refused = machine.remove(packager, check=False)
    assert refused.code
    assert "runs from this package" in refused.text + refused.stderr.decode()
    assert machine.sh(f"systemctl is-active {UNIT}; countersign-gate version").text.split()[0] == "active"
    machine.sh(f"systemctl stop {UNIT}")
    machine.remove(packager)
    machine.sh("rm -rf /etc/countersign /var/lib/countersign /var/log/countersign")
    assert machine.sh("command -v countersign-gate countersign-hook", check=False).text == ""
