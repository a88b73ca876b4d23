"""Content goes to and comes from a registry whole and checked, through mirrors and without."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from countersign.oci import descriptor
from countersign.oci import digest as digests
from countersign.oci.descriptor import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Descriptor
from countersign.oci.errors import BadConfig, Malformed, NotFound, RegistryError, RegistryUnreachable, Tampered
from countersign.oci.reference import parse
from countersign.oci.registry import Registry
from tests.fake_registry import FakeRegistry, Reply, serving
from tests.images import push_image

MISSING = "sha256:" + "a" * 64


def test_a_manifest_comes_back_as_it_went(fake: FakeRegistry) -> None:
    registry = Registry()
    pushed = push_image(registry, fake.name(), "v1")
    content, found = registry.manifest(fake.name(), "v1")
    assert found == pushed == registry.resolve(parse(f"{fake.name()}@{pushed.digest}"))
    assert digests.matches(pushed.digest, content)


def test_a_blob_that_is_there_is_not_sent_again(fake: FakeRegistry) -> None:
    registry = Registry()
    first = registry.put_blob(fake.name(), b"content")
    assert registry.put_blob(fake.name(), b"content") == first
    assert len(fake.asked("PUT", "/blobs/")) == 1


def test_a_blob_goes_from_a_file(fake: FakeRegistry) -> None:
    content = b"x" * 300_000
    Registry().put_stream(fake.name(), descriptor.of(content, "x/y"), io.BytesIO(content))
    assert fake.blobs[digests.of(content)] == content


@pytest.mark.parametrize("reference", ["nope", MISSING])
def test_an_unknown_image_is_the_users_error(fake: FakeRegistry, reference: str) -> None:
    with pytest.raises(NotFound, match="no such image") as caught:
        Registry().manifest(fake.name(), reference)
    assert caught.value.exit_code == 2
    assert Registry().manifest_or_none(fake.name(), reference) is None


def test_a_registry_error_is_not_taken_for_absence(fake: FakeRegistry) -> None:
    fake.faults.append(lambda _: Reply(500))
    with pytest.raises(RegistryError):
        Registry().manifest_or_none(fake.name(), "v1")


def test_a_manifest_with_other_bytes_than_its_digest(fake: FakeRegistry) -> None:
    registry = Registry()
    pushed = push_image(registry, fake.name())
    body, media_type = fake.manifests["demo/app", pushed.digest]
    fake.manifests["demo/app", pushed.digest] = (body + b" ", media_type)
    with pytest.raises(Tampered) as caught:
        registry.manifest(fake.name(), pushed.digest)
    assert caught.value.code == "TAMPERED"


def test_a_tag_whose_bytes_contradict_the_answers_own_digest(fake: FakeRegistry) -> None:
    fake.faults.append(lambda _: Reply(200, b"{}", {"Docker-Content-Digest": MISSING}))
    with pytest.raises(Tampered):
        Registry().manifest(fake.name(), "v1")


def test_a_blob_with_other_bytes_than_its_digest(fake: FakeRegistry) -> None:
    fake.blobs[MISSING] = b"other"
    with pytest.raises(Tampered):
        Registry().blob(fake.name(), MISSING, 10)


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (b"no", OCI_MANIFEST),
        (b"[]", OCI_MANIFEST),
        (b"[" * 100_000, OCI_MANIFEST),
        (b'{"mediaType": "%s"}' % OCI_INDEX.encode(), OCI_MANIFEST),
        (b'{"mediaType": 1}', OCI_MANIFEST),
        (b'{"layers": []}', OCI_INDEX),
        (b'{"manifests": []}', OCI_MANIFEST),
        (b" " * (descriptor.MANIFEST_LIMIT + 1), OCI_MANIFEST),
    ],
)
def test_a_manifest_that_is_none(fake: FakeRegistry, body: bytes, media_type: str) -> None:
    fake.faults.append(lambda _: Reply(200, body, {"Content-Type": media_type}))
    with pytest.raises(Malformed) as caught:
        Registry().manifest(fake.name(), "v1")
    assert caught.value.code == "MALFORMED"


@pytest.mark.parametrize("header", [f"{DOCKER_MANIFEST}; charset=utf-8", "application/json", ""])
def test_the_media_type_is_the_manifests_own_or_the_answers(fake: FakeRegistry, header: str) -> None:
    body = b"{}" if header.startswith(DOCKER_MANIFEST) else json.dumps({"mediaType": DOCKER_MANIFEST}).encode()
    fake.faults.append(lambda _: Reply(200, body, {"Content-Type": header}))
    assert Registry().manifest(fake.name(), "v1")[1].media_type == DOCKER_MANIFEST


@pytest.mark.parametrize(
    "broken",
    [
        {"digest": MISSING, "size": 1},
        {"mediaType": "x", "digest": "sha256:zz", "size": 1},
        {"mediaType": "x", "digest": MISSING, "size": "1"},
        {"mediaType": "x", "digest": MISSING, "size": True},
        {"mediaType": "x", "digest": MISSING, "size": -1},
        {"mediaType": "x", "digest": MISSING, "size": 1, "annotations": {"a": 1}},
        {"mediaType": "x", "digest": MISSING, "size": 1, "platform": [1]},
        {"mediaType": "x", "digest": MISSING, "size": 1, "artifactType": 1},
        "x",
    ],
)
def test_a_descriptor_that_is_none(broken: object) -> None:
    good = {"mediaType": "x", "digest": MISSING, "size": 1}
    assert descriptor.from_json(good, "here") == Descriptor("x", MISSING, 1)
    with pytest.raises(Malformed, match="here"):
        descriptor.from_json(broken, "here")


class Mirrored:
    """A registry r.example with a mirror in front of it."""

    def __init__(self, mirror: FakeRegistry, origin: FakeRegistry, folder: Path) -> None:
        self.mirror, self.origin = mirror, origin
        (folder / "r.example").mkdir()
        (folder / "r.example" / "hosts.toml").write_text(
            f'server = "http://{origin.netloc}"\n[host."http://{mirror.netloc}"]\ncapabilities = ["pull", "resolve"]\n'
        )
        self.registry = Registry(folder)


@pytest.fixture
def mirrored(fake: FakeRegistry, tmp_path: Path) -> Iterator[Mirrored]:
    with serving() as origin:
        yield Mirrored(fake, origin, tmp_path)


def test_pushes_go_past_a_mirror_that_only_pulls(mirrored: Mirrored) -> None:
    push_image(mirrored.registry, "r.example/demo/app", "v1")
    assert ("demo/app", "v1") in mirrored.origin.manifests
    assert mirrored.mirror.requests == []


def test_the_mirror_is_asked_first_and_told_for_whom(mirrored: Mirrored) -> None:
    pushed = push_image(Registry(), mirrored.mirror.name(), "v1")
    mirrored.mirror.requests.clear()
    assert mirrored.registry.resolve(parse("r.example/demo/app:v1")) == pushed
    assert mirrored.mirror.requests[0].query == {"ns": ["r.example"]}
    assert mirrored.origin.requests == []


@pytest.mark.parametrize("status", [404, 500, 401, 403])
def test_a_mirror_that_fails_is_passed_by(mirrored: Mirrored, status: int) -> None:
    pushed = push_image(mirrored.registry, "r.example/demo/app", "v1")
    mirrored.mirror.faults.append(lambda _: Reply(status, headers={"WWW-Authenticate": "Basic realm=x"}))
    assert mirrored.registry.resolve(parse("r.example/demo/app:v1")) == pushed


def test_what_the_mirror_lacks_and_the_origin_lacks_is_not_found(mirrored: Mirrored) -> None:
    with pytest.raises(NotFound, match=mirrored.origin.netloc):
        mirrored.registry.resolve(parse("r.example/demo/app:v1"))


def test_an_origin_that_fails_is_not_taken_for_absence(mirrored: Mirrored) -> None:
    mirrored.origin.faults.append(lambda _: Reply(503))
    with pytest.raises(RegistryError, match="503"):
        mirrored.registry.manifest_or_none("r.example/demo/app", "v1")


def test_nobody_may_be_asked(tmp_path: Path) -> None:
    (tmp_path / "r.example").mkdir()
    (tmp_path / "r.example" / "hosts.toml").write_text('server = "http://127.0.0.1:1"\ncapabilities = ["push"]\n')
    with pytest.raises(BadConfig, match="asked to pull"):
        Registry(tmp_path).blob("r.example/demo/app", MISSING, 1)
    (tmp_path / "r.example" / "hosts.toml").write_text('server = "http://127.0.0.1:1"\ncapabilities = ["pull"]\n')
    with pytest.raises(BadConfig, match="asked to push"):
        Registry(tmp_path).put_blob("r.example/demo/app", b"x")
    with pytest.raises(RegistryUnreachable):
        Registry(tmp_path).blob("r.example/demo/app", MISSING, 1)
