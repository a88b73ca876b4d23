"""Referrers are found and added, with the API and with the fallback tag; what others wrote stays."""

from __future__ import annotations

import json
from typing import Any

import pytest

from countersign.oci import descriptor, referrers
from countersign.oci import digest as digests
from countersign.oci.descriptor import EMPTY_JSON, OCI_EMPTY, OCI_INDEX, OCI_MANIFEST, Descriptor
from countersign.oci.errors import Malformed, RegistryError
from countersign.oci.registry import Registry
from tests.fake_registry import FakeRegistry, Reply, Request
from tests.images import push_image

both = pytest.mark.parametrize("api", [True, False], ids=["api", "fallback"])
KIND = "application/vnd.example.thing"


def manifest(subject: Descriptor, kind: str = KIND, **more: object) -> bytes:
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": kind,
        "config": descriptor.of(EMPTY_JSON, OCI_EMPTY).as_json(),
        "layers": [],
        "subject": subject.as_json(),
    }
    return descriptor.encode(document | more)


def index_of(fake: FakeRegistry, subject: Descriptor) -> Any:
    return json.loads(fake.manifests["demo/app", digests.tag(subject.digest)][0])


@both
def test_what_was_added_is_found(fake: FakeRegistry, api: bool) -> None:
    fake.referrers_api = api
    registry = Registry()
    subject = push_image(registry, fake.name(), "v1")
    assert referrers.listing(registry, fake.name(), subject.digest) == []
    first = referrers.add(registry, fake.name(), manifest(subject))
    second = referrers.add(registry, fake.name(), manifest(subject, "application/vnd.example.other"))
    found = referrers.listing(registry, fake.name(), subject.digest)
    assert [(one.digest, one.artifact_type) for one in found] == [
        (first.digest, KIND),
        (second.digest, "application/vnd.example.other"),
    ]


@both
def test_only_a_registry_without_the_api_gets_a_fallback_tag(fake: FakeRegistry, api: bool) -> None:
    fake.referrers_api = api
    registry = Registry()
    subject = push_image(registry, fake.name(), "v1")
    referrers.add(registry, fake.name(), manifest(subject))
    assert (("demo/app", digests.tag(subject.digest)) in fake.manifests) is not api


@pytest.mark.parametrize("status", [400, 404, 405, 406, 501])
def test_what_registries_say_that_have_no_api(fake: FakeRegistry, status: int) -> None:
    registry = Registry()
    subject = push_image(registry, fake.name(), "v1")
    fake.faults.append(lambda request: Reply(status) if "/referrers/" in request.path else None)
    added = referrers.add(registry, fake.name(), manifest(subject))
    assert [one.digest for one in referrers.listing(registry, fake.name(), subject.digest)] == [added.digest]


def test_a_page_that_is_no_index_is_no_api(fake: FakeRegistry) -> None:
    registry = Registry()
    subject = push_image(registry, fake.name(), "v1")
    page = Reply(200, b"<html>", {"Content-Type": "text/html"})
    fake.faults.append(lambda request: page if "/referrers/" in request.path else None)
    assert referrers.listing(registry, fake.name(), subject.digest) == []


def test_an_error_of_the_api_is_not_taken_for_absence(fake: FakeRegistry) -> None:
    fake.faults.append(lambda request: Reply(500) if "/referrers/" in request.path else None)
    with pytest.raises(RegistryError, match="500"):
        referrers.listing(Registry(), fake.name(), "sha256:" + "a" * 64)


def test_a_second_time_adds_nothing(fake: FakeRegistry) -> None:
    fake.referrers_api = False
    registry = Registry()
    subject = push_image(registry, fake.name(), "v1")
    referrers.add(registry, fake.name(), manifest(subject))
    before = index_of(fake, subject)
    referrers.add(registry, fake.name(), manifest(subject))
    assert index_of(fake, subject) == before


def test_foreign_entries_of_the_fallback_index_stay_as_they_are(fake: FakeRegistry) -> None:
    fake.referrers_api = False
    registry = Registry()
    subject = push_image(registry, fake.name(), "v1")
    foreign = {"mediaType": OCI_MANIFEST, "digest": "sha256:" + "f" * 64, "size": 1, "artifactType": OCI_EMPTY, "x": 1}
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [foreign], "annotations": {"a": "b"}}
    registry.put_manifest(fake.name(), digests.tag(subject.digest), descriptor.encode(index), OCI_INDEX)
    added = referrers.add(registry, fake.name(), manifest(subject))
    now = index_of(fake, subject)
    assert now["manifests"][0] == foreign
    assert now["annotations"] == {"a": "b"}
    assert now["manifests"][1]["digest"] == added.digest
    assert now["manifests"][1]["artifactType"] == KIND


@pytest.mark.parametrize("written", ["", OCI_EMPTY])
def test_an_entry_that_does_not_say_what_it_is_is_read(fake: FakeRegistry, written: str) -> None:
    fake.referrers_api = False
    registry = Registry()
    subject = push_image(registry, fake.name(), "v1")
    content = manifest(subject, annotations={"a": "b"})
    entry = registry.put_manifest(fake.name(), digests.of(content), content, OCI_MANIFEST).as_json()
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry | {"artifactType": written}]}
    registry.put_manifest(fake.name(), digests.tag(subject.digest), descriptor.encode(index), OCI_INDEX)
    (found,) = referrers.listing(registry, fake.name(), subject.digest)
    assert found.artifact_type == KIND
    assert found.annotations == {"a": "b"}


def test_a_manifest_without_artifact_type_is_what_its_config_is(fake: FakeRegistry) -> None:
    registry = Registry()
    subject = push_image(registry, fake.name(), "v1")
    config = descriptor.of(EMPTY_JSON, "application/vnd.cncf.notary.signature").as_json()
    referrers.add(registry, fake.name(), manifest(subject, "", config=config))
    assert (
        referrers.listing(registry, fake.name(), subject.digest)[0].artifact_type
        == "application/vnd.cncf.notary.signature"
    )


def test_an_entry_whose_manifest_is_gone_is_left_out(fake: FakeRegistry) -> None:
    fake.referrers_api = False
    registry = Registry()
    subject = push_image(registry, fake.name(), "v1")
    gone = {"mediaType": OCI_MANIFEST, "digest": "sha256:" + "f" * 64, "size": 1}
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [gone]}
    registry.put_manifest(fake.name(), digests.tag(subject.digest), descriptor.encode(index), OCI_INDEX)
    assert referrers.listing(registry, fake.name(), subject.digest) == []


def test_pages_are_followed(fake: FakeRegistry) -> None:
    fake.page_size = 2
    registry = Registry()
    subject = push_image(registry, fake.name(), "v1")
    added = [referrers.add(registry, fake.name(), manifest(subject, f"{KIND}{i}")).digest for i in range(5)]
    assert [one.digest for one in referrers.listing(registry, fake.name(), subject.digest)] == added


def page_after(target: str) -> Reply:
    headers = {"Content-Type": OCI_INDEX, "Link": f'<{target}>; rel="next"'}
    return Reply(200, b'{"manifests": []}', headers)


def test_pages_have_an_end(fake: FakeRegistry) -> None:
    fake.faults.append(lambda request: page_after(request.path) if "/referrers/" in request.path else None)
    with pytest.raises(Malformed, match="more than 256 pages"):
        referrers.listing(Registry(), fake.name(), "sha256:" + "a" * 64)


def test_a_page_is_asked_of_the_server_that_names_it_whatever_it_calls_itself(fake: FakeRegistry) -> None:
    asked: list[dict[str, list[str]]] = []

    def pages(request: Request) -> Reply | None:
        if "/referrers/" not in request.path:
            return None
        asked.append(request.query)
        more = page_after("http://127.0.0.1:1/v2/x?last=1")
        return more if len(asked) == 1 else Reply(200, b'{"manifests": []}', {"Content-Type": OCI_INDEX})

    fake.faults.append(pages)
    assert list(referrers.listing(Registry(), fake.name(), "sha256:" + "a" * 64)) == []
    assert asked == [{}, {"last": ["1"]}]


@pytest.mark.parametrize("content", [b'{"manifests": null}', b'{"manifests": []}'])
@pytest.mark.parametrize("media", [OCI_INDEX, OCI_INDEX.upper()])
def test_an_empty_list_may_be_null(fake: FakeRegistry, content: bytes, media: str) -> None:
    def answers(request: Request) -> Reply | None:
        return Reply(200, content, {"Content-Type": media}) if "/referrers/" in request.path else None

    fake.faults.append(answers)
    registry = Registry()
    assert list(referrers.listing(registry, fake.name(), "sha256:" + "a" * 64)) == []
    assert fake.name() not in registry.without_referrers


def test_too_many_referrers_are_refused(fake: FakeRegistry) -> None:
    entry = {"mediaType": OCI_MANIFEST, "digest": "sha256:" + "f" * 64, "size": 1, "artifactType": KIND}
    many = [entry | {"digest": f"sha256:{i:064x}"} for i in range(20_001)]
    body = json.dumps({"manifests": many}).encode()
    fake.faults.append(lambda _: Reply(200, body, {"Content-Type": OCI_INDEX}))
    with pytest.raises(Malformed, match="20001 referrers"):
        referrers.listing(Registry(), fake.name(), "sha256:" + "a" * 64)


class Rival:
    """Another client that overwrites the fallback index right after we wrote it, some times."""

    def __init__(self, fake: FakeRegistry, tag: str, times: int) -> None:
        self.fake, self.tag, self.times = fake, tag, times
        self.pending = False
        fake.faults.append(self)

    def __call__(self, request: Request) -> Reply | None:
        if self.pending and self.times and request.method == "GET" and request.path.endswith(self.tag):
            index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [], "annotations": {"n": str(self.times)}}
            self.fake.manifests["demo/app", self.tag] = (descriptor.encode(index), OCI_INDEX)
            self.times -= 1
        self.pending = request.method == "PUT" and request.path.endswith(self.tag)
        return None


def test_an_entry_that_a_rival_overwrote_is_written_again(fake: FakeRegistry) -> None:
    fake.referrers_api = False
    registry = Registry()
    subject = push_image(registry, fake.name(), "v1")
    rival = Rival(fake, digests.tag(subject.digest), 3)
    added = referrers.add(registry, fake.name(), manifest(subject))
    assert rival.times == 0
    assert [one.digest for one in referrers.listing(registry, fake.name(), subject.digest)] == [added.digest]


def test_a_rival_that_never_stops_is_an_error(fake: FakeRegistry) -> None:
    fake.referrers_api = False
    registry = Registry()
    subject = push_image(registry, fake.name(), "v1")
    Rival(fake, digests.tag(subject.digest), 100)
    with pytest.raises(RegistryError, match="keep overwriting"):
        referrers.add(registry, fake.name(), manifest(subject))


def test_a_manifest_without_subject_is_no_referrer(fake: FakeRegistry) -> None:
    with pytest.raises(Malformed, match="subject"):
        referrers.add(Registry(), fake.name(), b"{}")


def test_an_api_that_shows_nothing_gets_the_tag_as_well(fake: FakeRegistry) -> None:
    empty = Reply(200, b'{"manifests": []}', {"Content-Type": OCI_INDEX})
    fake.faults.append(lambda request: empty if "/referrers/" in request.path else None)
    registry = Registry()
    subject = push_image(registry, fake.name(), "v1")
    added = referrers.add(registry, fake.name(), manifest(subject))
    assert [one["digest"] for one in index_of(fake, subject)["manifests"]] == [added.digest]
    assert [one.digest for one in referrers.listing(registry, fake.name(), subject.digest)] == [added.digest]


def test_an_api_that_fails_does_not_void_the_tag(fake: FakeRegistry) -> None:
    fake.faults.append(lambda request: Reply(429, b"slow down") if "/referrers/" in request.path else None)
    registry = Registry()
    subject = push_image(registry, fake.name(), "v1")
    added = referrers.add(registry, fake.name(), manifest(subject))
    assert [one.digest for one in referrers.listing(registry, fake.name(), subject.digest)] == [added.digest]


def test_a_tag_that_is_taken_for_the_digest_is_told(fake: FakeRegistry) -> None:
    fake.referrers_api = False
    registry = Registry()
    subject = push_image(registry, fake.name(), "v1")
    before = dict(fake.manifests)

    def as_digest(request: Request) -> None:
        if request.method != "PUT":
            request.path = request.path.replace("/manifests/sha256-", "/manifests/sha256:")

    fake.faults.append(as_digest)
    assert referrers.listing(registry, fake.name(), subject.digest) == []
    with pytest.raises(RegistryError, match=r"takes the tag sha256-.* for the digest"):
        referrers.add(registry, fake.name(), manifest(subject))
    assert fake.manifests == before


def test_a_tag_that_keeps_what_was_there_is_told(fake: FakeRegistry) -> None:
    fake.referrers_api = False
    registry = Registry()
    subject = push_image(registry, fake.name(), "v1")
    referrers.add(registry, fake.name(), manifest(subject))
    tag = digests.tag(subject.digest)
    fake.faults.append(lambda request: Reply(201) if request.method == "PUT" and request.path.endswith(tag) else None)
    with pytest.raises(RegistryError, match="has what was there before"):
        referrers.add(registry, fake.name(), manifest(subject, "application/vnd.example.other"))
