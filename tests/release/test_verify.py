"""What release.verify refuses, with its reason; each beside what it takes, which differs in one thing."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from countersign.keys import files as keyfiles
from countersign.keys import pair as keys
from countersign.oci.descriptor import Descriptor
from release import publish, sbom, statement
from release.signer import ByKey, Signer
from release.trust import ByKey as TrustKey
from signing import stored
from tests.images import push_image
from tests.release.conftest import Lab, Made, Make, resign

ARTEFACT = "app-1.2.3-linux-amd64"


def test_a_release_is_good(make: Make) -> None:
    assert make().verify() == {}


def test_an_artefact_is_refused_where_its_checksum_was_altered_too(make: Make) -> None:
    made = make()
    with (made.folder / ARTEFACT).open("ab") as file:
        file.write(b"\0")
    sums = made.folder / "SHA256SUMS"
    sums.write_bytes(sums.read_bytes().replace(b"a", b"b"))
    assert made.verify() == {"SHA256SUMS": "tampered"}


def test_a_signature_that_is_missing_is_refused(make: Make) -> None:
    made = make()
    (made.folder / f"{ARTEFACT}.sigstore.json").unlink()
    assert made.verify()[f"{ARTEFACT}: signature"] == "unsigned"


def test_a_signature_of_another_file_is_refused(make: Make) -> None:
    made = make()
    shutil.copy(made.folder / "other-1.2.3-linux-amd64.sigstore.json", made.folder / f"{ARTEFACT}.sigstore.json")
    resign_sums_only(made)
    assert made.verify() == {f"{ARTEFACT}: signature": "tampered"}


def test_a_release_by_another_key_is_refused(make: Make, tmp_path: Path) -> None:
    made = make()
    _, other = keyfiles.write(tmp_path / "other", keys.generate(), b"x")
    assert made.verify() == {}
    assert made.verify(TrustKey(other)) == {"SHA256SUMS": "bad-signature"}


def test_images_by_another_key_are_refused(make: Make) -> None:
    made = make(signer=ByKey(keys.generate()))
    resign_all(made)
    reasons = {what.partition(": ")[2]: reason for what, reason in made.verify().items() if "@sha256" in what}
    assert reasons == dict.fromkeys(("signature", "provenance", "spdx", "cyclonedx"), "bad-signature")


def test_checksums_of_another_release_are_refused(make: Make, lab: Lab) -> None:
    made = make()
    older = Made(lab, replace(made.release, release="1.2.2"), made.folder.parent / "older")
    shutil.copytree(made.folder, older.folder)
    (older.folder / "app-1.2.3.release.json").unlink()
    resign(older)
    for name in ("SHA256SUMS", "SHA256SUMS.sigstore.json"):
        shutil.copy(older.folder / name, made.folder / name)
    assert made.verify() == {"SHA256SUMS": "other-release"}


def test_another_release_than_the_one_that_was_asked_for_is_refused(make: Make) -> None:
    made = make()
    assert made.verify(version="1.2.3") == {}
    assert made.verify(version="1.2.4") == {"SHA256SUMS": "other-release"}


@pytest.mark.parametrize(
    ("ending", "what"),
    [
        ("app-1.2.3-linux-arm64.spdx.sigstore.json", "app-1.2.3-linux-arm64: spdx"),
        ("app-1.2.3-linux-arm64.cdx.sigstore.json", "app-1.2.3-linux-arm64: cyclonedx"),
        ("app-1.2.3.provenance.sigstore.json", "app-1.2.3.tar.gz: provenance"),
    ],
)
def test_an_attestation_that_is_missing_is_refused_even_if_the_checksums_lack_it(
    make: Make, ending: str, what: str
) -> None:
    made = make()
    (made.folder / ending).unlink()
    resign(made)
    assert made.verify()[what] == "unattested"


def test_an_sbom_of_another_program_is_refused(make: Make) -> None:
    made = make()
    name = "app-1.2.3-linux-amd64"
    for ending in (".spdx.json", ".spdx.sigstore.json"):
        shutil.copy(made.folder / f"other-1.2.3-linux-amd64{ending}", made.folder / f"{name}{ending}")
    resign(made)
    assert made.verify() == {f"{name}: spdx": "other-subject"}


def test_an_sbom_that_is_attested_for_this_program_and_is_of_another_is_refused(make: Make) -> None:
    made = make()
    name = "app-1.2.3-linux-amd64"
    other = made.folder / "other-1.2.3-linux-amd64.spdx.json"
    shutil.copy(other, made.folder / f"{name}.spdx.json")
    digest = next(each.sha256 for each in made.release.files if each.name == name)
    content = statement.make({name: digest}, sbom.PREDICATES["spdx"], json.loads(other.read_bytes()))
    (made.folder / f"{name}.spdx.sigstore.json").write_bytes(ByKey(made.lab.key).statement(content))
    resign(made)
    assert made.verify() == {f"{name}: spdx": "other-subject"}


def test_an_sbom_that_is_not_the_one_that_is_attested_is_refused(make: Make) -> None:
    made = make()
    path = made.folder / "app-1.2.3-linux-amd64.spdx.json"
    path.write_bytes(path.read_bytes().replace(b"1.27.3", b"1.27.4"))
    resign(made)
    assert made.verify() == {"app-1.2.3-linux-amd64: spdx": "wrong-content"}


def test_provenance_of_another_commit_is_refused(make: Make) -> None:
    made = make()
    path = made.file(".provenance.sigstore.json")
    _, subjects, predicate = statement.read(path.read_bytes(), "")
    predicate["buildDefinition"]["resolvedDependencies"][0]["digest"]["gitCommit"] = "d" * 40
    content = statement.make(
        {name: value for value, name in subjects.items()}, "https://slsa.dev/provenance/v1", predicate
    )
    path.write_bytes(ByKey(made.lab.key).statement(content))
    resign(made)
    refused = made.verify()
    assert set(refused.values()) == {"wrong-content"}
    assert len(refused) == len(made.release.files)


def test_images_that_nobody_signed_are_refused(make: Make) -> None:
    refused = make(leave_out=["sign"]).verify()
    assert set(refused.values()) == {"unsigned"}
    assert all(what.endswith(": signature") for what in refused)
    assert len(refused) == 3 + 1  # index, two platforms, chart


def test_an_image_that_is_not_attested_is_refused(make: Make) -> None:
    made = make(leave_out=["attest"])
    refused = {what: reason for what, reason in made.verify().items() if "@sha256" in what}
    assert set(refused.values()) == {"unattested"}
    assert len(refused) == 3 + 2 * 2 + 1


def test_an_image_whose_sbom_is_of_another_digest_is_refused(make: Make) -> None:
    good, bad = make(), make(leave_out=["attest"])
    assert good.verify() == {}
    image = bad.release.images[0]
    amd64, arm64 = (image.platforms[f"linux/{each}"] for each in ("amd64", "arm64"))
    document = next(_attached(good, arm64, "spdx"))
    _hang(bad, amd64, {"app": amd64}, document)
    what = f"{image.repository}@{amd64}: spdx"
    assert bad.verify()[what] == "other-subject"
    _hang(bad, arm64, {"app": amd64}, document)
    assert bad.verify()[f"{image.repository}@{arm64}: spdx"] == "other-subject"


def test_a_bad_attestation_does_not_hide_a_good_one(make: Make) -> None:
    made = make()
    image = made.release.images[0]
    digest = image.platforms["linux/amd64"]
    _hang(made, digest, {"app": "sha256:" + "0" * 64}, next(_attached(made, digest, "spdx")))
    assert made.verify() == {}


def test_an_image_that_is_gone_is_refused(make: Make) -> None:
    made = make()
    image, chart = made.release.images
    elsewhere = replace(image, repository=f"{image.repository}-gone")
    moved = replace(made, release=replace(made.release, images=(elsewhere, chart)))
    resign(moved)
    reasons = {reason for what, reason in moved.verify().items() if what.endswith(": there")}
    assert reasons == {"missing"}


def test_an_image_that_was_never_pushed_is_refused(make: Make) -> None:
    assert make(leave_out=["push", "chart", "sign", "attest"]).verify()["app"] == "missing"


def test_a_tag_that_was_moved_is_refused(make: Make, lab: Lab) -> None:
    made = make()
    image = made.release.images[0]
    chart = f"{made.release.images[1].repository}:1.2.3"
    missing = [*(f"{image.repository}:{tag}" for tag in image.tags), chart]
    assert made.verify(tags=True) == dict.fromkeys(missing, "missing")
    moved = [f"{image.repository}:{tag}" for tag in ("1.2", image.tags[2], "1.2.3")]
    moved.append(chart)
    assert [str(each) for each in publish.move_tags(lab.client, made.release)] == moved
    assert made.verify(tags=True) == {}
    assert [str(each) for each in publish.move_tags(lab.client, made.release)] == []
    push_image(lab.client, image.repository, "1.2", "evil")
    assert made.verify(tags=True) == {f"{image.repository}:1.2": "moved-tag"}


def _attached(made: Made, digest: str, form: str):
    from release.attest import on_image

    for content in on_image(made.lab.client, made.release.images[0].repository, digest, sbom.PREDICATES[form]):
        yield statement.read(content, "")[2]


def _hang(made: Made, digest: str, subjects: dict[str, str], document: dict[str, object]) -> None:
    """Hang an attested SBOM on a digest, whatever it is about."""
    repository = made.release.images[0].repository
    what = made.lab.client.manifest(repository, digest)[1]
    bare = {name: value.removeprefix("sha256:") for name, value in subjects.items()}
    content = ByKey(made.lab.key).statement(statement.make(bare, sbom.PREDICATES["spdx"], document))
    subject = Descriptor(what.media_type, what.digest, what.size)
    stored.add_bundle(made.lab.client, repository, subject, content, sbom.PREDICATES["spdx"])


def resign_sums_only(made: Made) -> None:
    """Write checksums over what lies there now, and keep every other signature as it is."""
    kept = {path: path.read_bytes() for path in made.folder.glob("*.sigstore.json") if "SHA256SUMS" not in path.name}
    resign(made)
    for path, content in kept.items():
        path.write_bytes(content)
    write_sums(made)


def write_sums(made: Made) -> None:
    from release.made import sha256

    names = sorted(path.name for path in made.folder.iterdir() if not path.name.startswith("SHA256SUMS"))
    content = "".join(f"{sha256(made.folder / name)}  {name}\n" for name in names).encode()
    (made.folder / "SHA256SUMS").write_bytes(content)
    (made.folder / "SHA256SUMS.sigstore.json").write_bytes(ByKey(made.lab.key).file(content))


def resign_all(made: Made, signer: Signer | None = None) -> None:
    """Sign every file as who is trusted, so that only what is in the registry is by another."""
    chosen = signer or ByKey(made.lab.key)
    for path in made.folder.glob("*.sigstore.json"):
        content = path.read_bytes()
        if not statement.of_file(content):
            kind, subjects, predicate = statement.read(content, "")
            about = {name: value for value, name in subjects.items()}
            path.write_bytes(chosen.statement(statement.make(about, kind, predicate)))
    resign(made, chosen)
