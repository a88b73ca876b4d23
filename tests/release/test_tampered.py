"""What release.verify refuses of files: one release that all share, and what is done to it taken back each time."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from countersign.keys import pair as keys
from release import flow, provenance, statement
from release.made import Folder, Release
from release.signer import ByKey
from release.trust import ByKey as TrustKey
from release.verify import Checker, Finding, verify_files
from release.verifying import Place
from signing.verify import program
from tests.release.conftest import Lab, Made, resign
from tests.release.test_registry import STAGES
from tests.release.test_verify import write_sums

PROGRAM = "app-1.2.3-linux-amd64"
KINDS = {
    "a program": PROGRAM,
    "the source archive": "app-1.2.3.tar.gz",
    "a .deb": "app_1.2.3_amd64.deb",
    "an .rpm": "app-1.2.3-1.aarch64.rpm",
    "another file": "app-1.2.3-app.service",
    "a folder of others": "app-1.2.3-deploy.tar.gz",
    "the chart": "app-chart-1.2.3.tgz",
    "the chart as plain YAML": "app-chart-1.2.3.yaml",
    "the Helm repository's index": "index.yaml",
    "an SBOM in SPDX": f"{PROGRAM}.spdx.json",
    "an SBOM in CycloneDX": f"{PROGRAM}.cdx.json",
    "an attested SBOM": f"{PROGRAM}.spdx.sigstore.json",
    "an image's SBOM": "app-1.2.3-image-linux-arm64.cdx.json",
    "the provenance": "app-1.2.3.provenance.sigstore.json",
    "the scan's result": "app-1.2.3.scan.sigstore.json",
    "the scan as SARIF": "app-1.2.3.sarif.json",
    "a file's signature": f"{PROGRAM}.sigstore.json",
}
FIRST = {"SHA256SUMS", "SHA256SUMS.sigstore.json", "app-1.2.3.release.json"}
"""What the rest hangs on."""


@pytest.fixture(scope="module")
def whole(lab: Lab, built: Folder) -> Made:
    """A release of 1.2.3; nobody changes it."""
    work = lab.work("whole")
    shutil.copytree(built.path, work.folder.path)
    state = flow.start(work)
    for name in STAGES:
        state = flow.run(work, name, state)
    return Made(lab, state.release, work.folder.files)


@pytest.fixture
def copy(whole: Made, tmp_path: Path) -> Made:
    """A copy of it, to be broken."""
    folder = tmp_path / "app-1.2.3"
    shutil.copytree(whole.folder, folder, copy_function=_link)
    return replace(whole, folder=folder)


def _link(source: str, target: str) -> None:
    """Link large files, which nothing here writes into in place."""
    Path(target).hardlink_to(source)


def refused(made: Made, version: str = "1.2.3") -> dict[str, str]:
    """Return what of the files is refused → its reason."""
    checker = Checker(program(made.lab.settings), TrustKey(made.lab.public))
    found = list(verify_files(checker, Place(made.folder), "app", version))
    assert found
    return {each.what: each.reason for each in found if isinstance(each, Finding) and each.reason}


def alter(path: Path) -> None:
    """Give a file one byte more, with which JSON is as good as before."""
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content + b"\n")


def test_the_release_is_good(whole: Made, copy: Made) -> None:
    assert whole.verify() == {}
    assert refused(copy) == {}


def test_each_kind_of_file_is_held_by_its_checksum_and_its_signature(copy: Made) -> None:
    others = {path.name for path in copy.folder.iterdir()} - FIRST
    assert set(KINDS.values()) <= others
    for name in others:
        alter(copy.folder / name)
    found = refused(copy)
    assert {name: found.get(name) for name in others} == dict.fromkeys(others, "tampered")
    files = [each.name for each in copy.release.files]
    assert {found[f"{name}: signature"] for name in files} == {"tampered"}


def test_each_kind_of_file_has_to_be_there(copy: Made) -> None:
    others = {path.name for path in copy.folder.iterdir()} - FIRST
    for name in others:
        (copy.folder / name).unlink()
    found = refused(copy)
    assert {name: found.get(name) for name in others} == dict.fromkeys(others, "missing")


@pytest.mark.parametrize(
    ("name", "reason", "missing"),
    [
        ("SHA256SUMS", "tampered", "missing"),
        ("SHA256SUMS.sigstore.json", "bad-signature", "unsigned"),
        ("app-1.2.3.release.json", "tampered", "missing"),
    ],
)
def test_nothing_is_believed_without_what_the_rest_hangs_on(copy: Made, name: str, reason: str, missing: str) -> None:
    path = copy.folder / name
    kept = path.read_bytes()
    path.unlink()
    assert refused(copy) == {"SHA256SUMS": missing}
    path.write_bytes(kept.replace(b'"signature":"', b'"signature":"AA', 1) if b'"signature":"' in kept else kept + b" ")
    assert refused(copy) == {"SHA256SUMS": reason}


def test_a_program_of_an_older_release_is_refused_with_its_own_good_signature(copy: Made) -> None:
    """Rolled back by who can write where files lie, and holds no key."""
    old = b"\x7fELF of 1.2.2"
    for name, content in {PROGRAM: old, f"{PROGRAM}.sigstore.json": ByKey(copy.lab.key).file(old)}.items():
        (copy.folder / name).unlink()
        (copy.folder / name).write_bytes(content)
    found = refused(copy)
    assert f"{PROGRAM}: signature" not in found
    assert (found[PROGRAM], found[f"{PROGRAM}: provenance"]) == ("tampered", "other-subject")


def test_a_whole_older_release_is_refused_where_a_version_is_asked_for(copy: Made) -> None:
    older = _as(copy, replace(copy.release, release="1.2.2"))
    assert refused(older) == {"SHA256SUMS": "other-release"}
    assert "SHA256SUMS" not in refused(older, "1.2.2")


def test_an_older_releases_document_and_checksums_are_refused(copy: Made) -> None:
    """All three of them are good together, and are not of what lies beside them."""
    older = _as(copy, replace(copy.release, release="1.2.2"))
    newer = older.folder / copy.release.manifest
    newer.write_bytes(copy.release.encoded())
    assert refused(older) == {"SHA256SUMS": "other-release"}


def test_a_release_of_another_project_is_refused(copy: Made) -> None:
    other = _as(copy, replace(copy.release, project="other"))
    assert refused(other) == {"SHA256SUMS": "other-release"}


def test_provenance_of_an_older_release_is_refused(copy: Made) -> None:
    path = copy.folder / copy.release.provenance
    kind, subjects, predicate = statement.read(path.read_bytes(), "")
    predicate["buildDefinition"]["externalParameters"]["version"] = "1.2.2"
    about = {name: value for value, name in subjects.items()}
    path.unlink()
    path.write_bytes(ByKey(copy.lab.key).statement(statement.make(about, kind, predicate)))
    resign(copy)
    found = refused(copy)
    assert set(found.values()) == {"wrong-content"}
    assert f"{PROGRAM}: provenance" in found


def test_an_attestation_of_another_kind_stands_for_none(copy: Made) -> None:
    """Signed by whom is trusted, and of the very file: only what it states is another kind of thing."""
    path, other = copy.folder / f"{PROGRAM}.spdx.sigstore.json", copy.folder / f"{PROGRAM}.cdx.sigstore.json"
    path.unlink()
    path.write_bytes(other.read_bytes())
    resign(copy)
    assert refused(copy) == {f"{PROGRAM}: spdx": "unattested"}


def test_an_attestation_by_another_key_is_refused(copy: Made) -> None:
    path = copy.folder / copy.release.provenance
    kind, subjects, predicate = statement.read(path.read_bytes(), "")
    assert kind == provenance.PREDICATE
    about = {name: value for value, name in subjects.items()}
    path.unlink()
    path.write_bytes(ByKey(keys.generate()).statement(statement.make(about, kind, predicate)))
    resign(copy)
    assert set(refused(copy).values()) == {"bad-signature"}


def test_what_the_checksums_do_not_have_is_refused(copy: Made) -> None:
    names = [".hidden", "app-1.2.4-linux-amd64", "SHA256SUMS.asc"]
    for name in names:
        (copy.folder / name).write_text("x")
    (copy.folder / "lib").mkdir()
    assert refused(copy) == dict.fromkeys([*names, "lib"], "unlisted")


def test_a_link_is_read_as_what_it_leads_to(copy: Made, tmp_path: Path) -> None:
    """To the same bytes it is the file; to others it is tampered; to nothing it is missing."""
    path = copy.folder / PROGRAM
    elsewhere = tmp_path / "elsewhere"
    shutil.copy(path, elsewhere)
    path.unlink()
    path.symlink_to(elsewhere)
    assert refused(copy) == {}
    elsewhere.write_bytes(b"others")
    assert refused(copy)[PROGRAM] == "tampered"
    elsewhere.unlink()
    assert refused(copy)[PROGRAM] == "missing"


def test_a_file_that_the_release_consists_of_has_to_be_among_the_checksums(copy: Made) -> None:
    more = replace(copy.release.files[0], name="evil-1.2.3-linux-amd64")
    (copy.folder / "SHA256SUMS").unlink()
    resigned = replace(copy, release=replace(copy.release, files=(*copy.release.files, more)))
    (copy.folder / copy.release.manifest).unlink()
    (copy.folder / copy.release.manifest).write_bytes(resigned.release.encoded())
    (copy.folder / "SHA256SUMS.sigstore.json").unlink()
    write_sums(copy)
    found = refused(copy)
    assert found["evil-1.2.3-linux-amd64: signature"] == "unlisted"
    assert found["evil-1.2.3-linux-amd64: provenance"] == "missing"


def _as(made: Made, release: Release) -> Made:
    """Sign a copy's files as another release, as who holds the key can."""
    folder = made.folder.parent / release.title
    shutil.copytree(made.folder, folder)
    (folder / made.release.manifest).unlink()
    found = Made(made.lab, release, folder)
    resign(found)
    return found
