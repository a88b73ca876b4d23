"""What release.verify refuses of what a registry gives: one release, in a registry that is made to lie in one thing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from countersign.keys import pair as keys
from countersign.oci.access import etc, hosts_folder
from countersign.oci.access import registry as access
from release import flow, provenance, publish, sbom, statement
from release.made import Folder
from release.signer import ByKey, Signer
from release.trust import ByKey as TrustKey
from release.verify import Checker, scratch
from release.verify_images import verify_images
from signing import stored
from signing.verify import Access, program
from tests.fake_registry import FakeRegistry, Reply, Request, serving
from tests.images import push_image
from tests.release.conftest import Lab, Made

Fault = Callable[[Request], Reply | None]
HONEST = "x-honest"
STAGES = ("push", "chart", "sign", "attest", "checksums")


@dataclass(frozen=True)
class Published:
    """A release with its tags, and the registry that it lies in."""

    made: Made
    registry: FakeRegistry

    def with_fault(self, fault: Fault) -> dict[str, str]:
        """Return what of the images is refused while the registry lies."""
        settings, trusted = self.made.lab.settings, TrustKey(self.made.lab.public)
        checker, access = Checker(program(settings), trusted), Access(hosts_folder(settings), [])
        self.registry.faults.append(lambda request: None if HONEST in request.headers else fault(request))
        try:
            with scratch() as private:
                client, release = self.made.lab.client, self.made.release
                found = list(verify_images(checker, client, release, access, Path(private), tags=True))
        finally:
            self.registry.faults.pop()
        assert found
        return {each.what: each.reason for each in found if each.reason}

    def honest(self, request: Request, path: str = "") -> Reply:
        """Return the answer without the lie, to another path if one is given."""
        return self.registry.answer(
            replace(request, path=path or request.path, headers={**request.headers, HONEST: ""})
        )

    def digest(self, what: str) -> str:
        """Return the digest of ``index``, ``chart``, or a platform."""
        image, chart = self.made.release.images
        return {"index": image.digest, "chart": chart.digest, **image.platforms}[what]

    def name(self, what: str) -> str:
        """Return what findings of it begin with."""
        image, chart = self.made.release.images
        return f"{(chart if what == 'chart' else image).repository}@{self.digest(what)}"


@pytest.fixture(scope="module")
def published(lab: Lab, built: Folder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    with serving() as registry:
        settings = replace(lab.settings, state=tmp_path_factory.mktemp("state"))
        hosts = etc(settings) / "certs.d" / registry.netloc
        hosts.mkdir(parents=True)
        (hosts / "hosts.toml").write_text(f'server = "http://{registry.netloc}"\n')
        lab = replace(lab, settings=settings, client=access(settings))
        work = replace(lab.work("lying"), base=registry.name("acme"))
        shutil.copytree(built.path, work.folder.path)
        state = flow.start(work)
        for name in STAGES:
            state = flow.run(work, name, state)
        publish.move_tags(lab.client, state.release)
        folder = tmp_path_factory.mktemp("published") / "files"
        shutil.copytree(work.folder.files, folder)
        yield Published(Made(lab, state.release, folder), registry)


def other_bytes(published: Published, digest: str) -> Fault:
    """Return what gives one byte more under a digest; what it says of itself stays."""

    def fault(request: Request) -> Reply | None:
        if request.method != "GET" or not request.path.endswith(digest) or "/referrers/" in request.path:
            return None
        honest = published.honest(request)
        return replace(honest, body=honest.body.replace(b'"schemaVersion":2', b'"schemaVersion": 2') + b" ")

    return fault


def not_there(part: str) -> Fault:
    """Return what has nothing under paths that end so."""
    return lambda request: Reply(404, b"{}") if request.path.endswith(part) else None


def without(published: Published, what: str, kind: str) -> Fault:
    """Return what lists no referrer of one predicate type on one digest."""

    def fault(request: Request) -> Reply | None:
        if not request.path.endswith(f"/referrers/{published.digest(what)}"):
            return None
        honest = published.honest(request)
        index = json.loads(honest.body)
        key = "dev.sigstore.bundle.predicateType"
        index["manifests"] = [each for each in index["manifests"] if each["annotations"].get(key) != kind]
        return replace(honest, body=json.dumps(index).encode())

    return fault


def test_it_is_good_while_the_registry_is_honest(published: Published) -> None:
    assert published.with_fault(lambda _: None) == {}


@pytest.mark.parametrize("what", ["index", "linux/arm64", "chart"])
def test_other_bytes_under_a_digest_are_refused(published: Published, what: str) -> None:
    refused = published.with_fault(other_bytes(published, published.digest(what)))
    assert refused[f"{published.name(what)}: there"] == "tampered"


@pytest.mark.parametrize("what", ["linux/amd64", "chart"])
def test_a_layer_with_other_bytes_is_refused(published: Published, what: str) -> None:
    repository, _, digest = published.name(what).partition("@")
    manifest = json.loads(published.made.lab.client.manifest(repository, digest)[0])
    layer = manifest["layers"][-1]["digest"]
    shared = {f"{published.name(what)}: there": "tampered"}
    assert published.with_fault(other_bytes(published, layer)) == shared
    assert published.with_fault(not_there(layer)) == dict.fromkeys(shared, "missing")


@pytest.mark.parametrize(
    ("what", "proof", "kind"),
    [
        ("index", "provenance", provenance.PREDICATE),
        ("linux/amd64", "provenance", provenance.PREDICATE),
        ("linux/amd64", "spdx", sbom.PREDICATES["spdx"]),
        ("linux/arm64", "cyclonedx", sbom.PREDICATES["cyclonedx"]),
        ("chart", "provenance", provenance.PREDICATE),
    ],
)
def test_an_attestation_of_an_image_that_is_missing_is_refused(
    published: Published, what: str, proof: str, kind: str
) -> None:
    assert published.with_fault(without(published, what, kind)) == {f"{published.name(what)}: {proof}": "unattested"}


def test_a_signature_of_another_image_is_refused(published: Published) -> None:
    """What hangs on one platform is shown for the other: signed by whom is trusted, and about something else."""
    amd64, arm64 = published.digest("linux/amd64"), published.digest("linux/arm64")

    def fault(request: Request) -> Reply | None:
        here, there = (arm64, amd64) if arm64 in request.path else (arm64.replace(":", "-"), amd64.replace(":", "-"))
        if here not in request.path or ("/referrers/" not in request.path and not request.path.endswith(".sig")):
            return None
        return published.honest(request, request.path.replace(here, there))

    refused = published.with_fault(fault)
    assert refused[f"{published.name('linux/arm64')}: signature"] == "other-subject"
    assert refused[f"{published.name('linux/arm64')}: spdx"] == "other-subject"


@pytest.mark.parametrize("tag", ["1.2.3", "1.2", "sha"])
def test_a_tag_that_is_gone_is_refused(published: Published, tag: str) -> None:
    image = published.made.release.images[0]
    (name,) = [each for each in image.tags if each == tag or each.startswith(f"{tag}-")]
    refused = published.with_fault(not_there(f"/{image.repository.partition('/')[2]}/manifests/{name}"))
    assert refused == {f"{image.repository}:{name}": "missing"}


@pytest.mark.parametrize(
    ("version", "reason"), [("1.2.4", ""), ("1.2.2", "moved-tag"), ("1.3.0", "moved-tag"), ("1.2.4-rc.1", "moved-tag")]
)
def test_major_minor_moves_on_to_a_later_patch_and_nowhere_else(
    published: Published, version: str, reason: str
) -> None:
    image = published.made.release.images[0]
    moved = leads_to(published, "1.2", other_release(published, version, ByKey(published.made.lab.key)))
    assert published.with_fault(moved) == ({f"{image.repository}:1.2": reason} if reason else {})


def test_a_later_patch_of_somebody_elses_is_refused(published: Published) -> None:
    moved = leads_to(published, "1.2", other_release(published, "1.2.5", ByKey(keys.generate())))
    assert published.with_fault(moved) == {f"{published.made.release.images[0].repository}:1.2": "moved-tag"}


def test_a_later_patch_of_another_image_of_the_project_is_refused(published: Published) -> None:
    image = published.made.release.images[0]
    later = other_release(published, "1.2.6", ByKey(published.made.lab.key), f"{image.repository}-other")
    assert published.with_fault(leads_to(published, "1.2", later)) == {f"{image.repository}:1.2": "moved-tag"}


def test_the_versions_own_tag_never_moves(published: Published) -> None:
    moved = leads_to(published, "1.2.3", other_release(published, "1.2.4", ByKey(published.made.lab.key)))
    assert published.with_fault(moved) == {f"{published.made.release.images[0].repository}:1.2.3": "moved-tag"}


def leads_to(published: Published, tag: str, digest: str) -> Fault:
    """Return what answers to the image's tag with what lies under a digest."""
    path = f"/v2/{published.made.release.images[0].repository.partition('/')[2]}/manifests/"
    return lambda request: published.honest(request, path + digest) if request.path == path + tag else None


def other_release(published: Published, version: str, signer: Signer, of: str = "") -> str:
    """Push an image with its provenance, as another version; return its digest.

    Args:
        of: the image that its provenance is of; empty for the one that it is pushed as.
    """
    client, release = published.made.lab.client, published.made.release
    name = release.images[0].repository
    image = push_image(client, name, marker=f"{version} {signer}")
    about = replace(release, release=version, commit="e" * 40)
    predicate = provenance.predicate(about, "https://git.example/builder", "1.27.3", ())
    content = statement.make({of or name: image.digest.removeprefix("sha256:")}, provenance.PREDICATE, predicate)
    stored.add_bundle(client, name, image, signer.statement(content), provenance.PREDICATE)
    return image.digest
