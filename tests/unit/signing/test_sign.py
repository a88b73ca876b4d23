"""Signing adds what is missing, keeps what is there, and signs digests only: index and platforms."""

from __future__ import annotations

import json

import pytest

from countersign.keys import pair as keys
from countersign.oci import descriptor
from countersign.oci.descriptor import OCI_INDEX, Descriptor
from countersign.oci.errors import Malformed, NotFound, RegistryError
from countersign.oci.reference import Reference, parse
from countersign.oci.registry import Registry
from signing import attachment, bundle, sign, stored
from signing.signer import ByKey
from signing.stored import FORMATS, Format
from tests.fake_registry import FakeRegistry, Reply, Request
from tests.images import push_image, push_index

KEY, OTHER_KEY = keys.generate(), keys.generate()
both = pytest.mark.parametrize("api", [True, False], ids=["api", "fallback"])


def reference(fake: FakeRegistry, tag: str = "v1") -> Reference:
    return parse(f"{fake.name()}:{tag}")


def count(registry: Registry, fake: FakeRegistry, digest: str) -> dict[str, int]:
    return {chosen: len(stored.listed(registry, fake.name(), digest, chosen)) for chosen in FORMATS}


@both
def test_both_formats_are_added_once(fake: FakeRegistry, api: bool) -> None:
    fake.referrers_api = api
    registry = Registry()
    target = push_image(registry, fake.name(), "v1")
    first = sign.sign(registry, fake.name(), target, KEY)
    assert (first.added, first.present) == (["attachment", "bundle"], [])
    second = sign.sign(registry, fake.name(), target, KEY)
    assert (second.added, second.present) == ([], ["attachment", "bundle"])
    assert count(registry, fake, target.digest) == {"attachment": 1, "bundle": 1}


@both
def test_another_key_adds_its_own_beside_ours(fake: FakeRegistry, api: bool) -> None:
    fake.referrers_api = api
    registry = Registry()
    target = push_image(registry, fake.name(), "v1")
    sign.sign(registry, fake.name(), target, KEY)
    sign.sign(registry, fake.name(), target, OTHER_KEY)
    assert count(registry, fake, target.digest) == {"attachment": 2, "bundle": 2}
    for key in (KEY, OTHER_KEY):
        assert sign.sign(registry, fake.name(), target, key).added == []


@pytest.mark.parametrize("chosen", FORMATS)
def test_only_the_format_that_is_asked_for(fake: FakeRegistry, chosen: Format) -> None:
    registry = Registry()
    target = push_image(registry, fake.name(), "v1")
    assert sign.sign(registry, fake.name(), target, KEY, [chosen]).added == [chosen]
    expected = {one: int(one == chosen) for one in FORMATS}
    assert count(registry, fake, target.digest) == expected


def test_a_signature_of_ours_on_something_else_does_not_count_as_present(fake: FakeRegistry) -> None:
    registry = Registry()
    target = push_image(registry, fake.name(), "v1")
    copied = attachment.sign(KEY, attachment.payload("elsewhere.example/app", target.digest))
    stored.add_attachment(registry, fake.name(), target.digest, copied)
    sbom = bundle.sign(KEY, bundle.statement(target.digest, "https://spdx.dev/Document"))
    stored.add_bundle(registry, fake.name(), target, sbom, "https://spdx.dev/Document")
    assert sign.sign(registry, fake.name(), target, KEY).added == ["attachment", "bundle"]
    assert count(registry, fake, target.digest) == {"attachment": 2, "bundle": 1}


def test_what_is_not_exactly_ours_gets_ours_beside_it(fake: FakeRegistry) -> None:
    registry = Registry()
    target = push_image(registry, fake.name(), "v1")
    more = attachment.payload(fake.name(), target.digest).replace(b"null", b'{"creator":"x"}')
    stored.add_attachment(registry, fake.name(), target.digest, attachment.sign(KEY, more))
    unknown = json.loads(bundle.sign(KEY, bundle.statement(target.digest))) | {"unknown": 1}
    stored.add_bundle(registry, fake.name(), target, descriptor.encode(unknown))
    assert sign.sign(registry, fake.name(), target, KEY).added == ["attachment", "bundle"]
    assert count(registry, fake, target.digest) == {"attachment": 2, "bundle": 2}
    assert sign.sign(registry, fake.name(), target, KEY).added == []


def test_ours_that_is_annotated_as_something_else_is_not_there(fake: FakeRegistry) -> None:
    registry = Registry()
    target = push_image(registry, fake.name(), "v1")
    ours = bundle.sign(KEY, bundle.statement(target.digest))
    stored.add_bundle(registry, fake.name(), target, ours, "https://spdx.dev/Document")  # the gate passes it by
    assert not sign.there(registry, fake.name(), target.digest, ByKey(KEY), "bundle")
    stored.add_bundle(registry, fake.name(), target, ours)
    assert sign.there(registry, fake.name(), target.digest, ByKey(KEY), "bundle")


def test_no_number_of_attestations_hides_ours(fake: FakeRegistry) -> None:
    registry = Registry()
    target = push_image(registry, fake.name(), "v1")
    sbom = bundle.sign(KEY, bundle.statement(target.digest, "https://spdx.dev/Document"))
    for more in range(66):
        stored.add_bundle(registry, fake.name(), target, sbom + b" " * more, "https://spdx.dev/Document")
    assert sign.sign(registry, fake.name(), target, KEY, ["bundle"]).added == ["bundle"]
    assert sign.sign(registry, fake.name(), target, KEY, ["bundle"]).added == []


def test_targets_are_the_index_and_every_platform(fake: FakeRegistry) -> None:
    registry = Registry()
    amd, arm, proof = (push_image(registry, fake.name(), marker=marker) for marker in ("amd", "arm", "proof"))
    platforms = {"linux/amd64": amd, "linux/arm64": arm, "unknown/unknown": proof}
    index = push_index(registry, fake.name(), "multi", platforms)
    found = sign.targets(registry, reference(fake, "multi"))
    assert [one.digest for one in found] == [index.digest, amd.digest, arm.digest]
    alone = sign.targets(registry, reference(fake, "multi"), recursive=False)
    assert [one.digest for one in alone] == [index.digest]


def test_a_platform_that_stands_twice_is_signed_once(fake: FakeRegistry) -> None:
    registry = Registry()
    amd = push_image(registry, fake.name())
    push_index(registry, fake.name(), "multi", {"linux/amd64": amd, "linux/arm64": amd})
    assert len(sign.targets(registry, reference(fake, "multi"))) == 2


def nested(registry: Registry, fake: FakeRegistry, depth: int) -> Descriptor:
    inner = push_image(registry, fake.name(), marker="inner")
    for _ in range(depth):
        content = descriptor.encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [inner.as_json()]})
        inner = registry.put_manifest(fake.name(), "nested", content, OCI_INDEX)
    return inner


def test_indexes_in_indexes_are_followed_within_bounds(fake: FakeRegistry) -> None:
    registry = Registry()
    nested(registry, fake, 3)
    assert len(sign.targets(registry, reference(fake, "nested"))) == 4
    nested(registry, fake, 6)
    with pytest.raises(Malformed, match="too deep"):
        sign.targets(registry, reference(fake, "nested"))


def test_an_index_with_very_many_manifests_is_refused(fake: FakeRegistry) -> None:
    registry = Registry()
    entries = [descriptor.of(str(i).encode(), descriptor.OCI_MANIFEST).as_json() for i in range(300)]
    content = descriptor.encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})
    registry.put_manifest(fake.name(), "many", content, OCI_INDEX)
    with pytest.raises(Malformed, match="too large"):
        sign.targets(registry, reference(fake, "many"))


def test_an_unknown_image(fake: FakeRegistry) -> None:
    with pytest.raises(NotFound):
        sign.targets(Registry(), reference(fake))


def test_a_tag_that_moves_meanwhile_does_not_change_what_is_signed(fake: FakeRegistry) -> None:
    registry = Registry()
    first = push_image(registry, fake.name(), "v1", "first")
    (target,) = sign.targets(registry, reference(fake))
    second = push_image(registry, fake.name(), "v1", "second")
    sign.sign(registry, fake.name(), target, KEY)
    assert count(registry, fake, first.digest) == {"attachment": 1, "bundle": 1}
    assert count(registry, fake, second.digest) == {"attachment": 0, "bundle": 0}


def test_an_attachment_names_the_repository_without_tag(fake: FakeRegistry) -> None:
    registry = Registry()
    target = push_image(registry, fake.name(), "v1")
    sign.sign(registry, fake.name(), target, KEY, ["attachment"])
    (found,) = stored.listed(registry, fake.name(), target.digest, "attachment")
    assert attachment.claim(stored.content(registry, fake.name(), found)) == (fake.name(), target.digest)


class Rival:
    """Another signer that puts its own ``.sig`` manifest over ours, some times."""

    def __init__(self, fake: FakeRegistry, target: Descriptor, times: int) -> None:
        self.fake, self.times, self.pending = fake, times, False
        self.tag = attachment.tag(target.digest)
        theirs = attachment.sign(OTHER_KEY, attachment.payload(fake.name(), target.digest))
        Registry().put_blob(fake.name(), theirs.payload)
        self.manifest = attachment.appended(None, theirs, "here")[0]
        fake.faults.append(self)

    def __call__(self, request: Request) -> Reply | None:
        if self.pending and self.times and request.method == "GET" and request.path.endswith(self.tag):
            theirs = descriptor.encode(json.loads(self.manifest) | {"annotations": {"n": str(self.times)}})
            self.fake.manifests["demo/app", self.tag] = (theirs, descriptor.OCI_MANIFEST)
            self.times -= 1
        self.pending = request.method == "PUT" and request.path.endswith(self.tag)
        return None


def test_after_a_race_both_signatures_are_there(fake: FakeRegistry) -> None:
    registry = Registry()
    target = push_image(registry, fake.name(), "v1")
    rival = Rival(fake, target, 2)
    sign.sign(registry, fake.name(), target, KEY, ["attachment"])
    assert rival.times == 0
    assert count(registry, fake, target.digest)["attachment"] == 2


def test_a_race_that_never_ends_is_an_error(fake: FakeRegistry) -> None:
    registry = Registry()
    target = push_image(registry, fake.name(), "v1")
    Rival(fake, target, 100)
    with pytest.raises(RegistryError, match="keep overwriting"):
        sign.sign(registry, fake.name(), target, KEY, ["attachment"])


def test_an_image_of_signatures_that_cannot_be_read_is_not_overwritten(fake: FakeRegistry) -> None:
    registry = Registry()
    target = push_image(registry, fake.name(), "v1")
    tag = attachment.tag(target.digest)
    fake.manifests["demo/app", tag] = (b'{"layers": 1}', descriptor.OCI_MANIFEST)
    with pytest.raises(Malformed):
        sign.sign(registry, fake.name(), target, KEY, ["attachment"])
    assert fake.manifests["demo/app", tag][0] == b'{"layers": 1}'


def test_layers_of_an_existing_image_of_signatures_stay_byte_for_byte(fake: FakeRegistry) -> None:
    registry = Registry()
    target = push_image(registry, fake.name(), "v1")
    sign.sign(registry, fake.name(), target, OTHER_KEY, ["attachment"])
    tag = attachment.tag(target.digest)
    before = json.loads(fake.manifests["demo/app", tag][0])["layers"]
    sign.sign(registry, fake.name(), target, KEY, ["attachment"])
    assert json.loads(fake.manifests["demo/app", tag][0])["layers"][:1] == before


def test_a_way_that_fails_does_not_void_the_other(fake: FakeRegistry) -> None:
    registry = Registry()
    target = push_image(registry, fake.name(), "v1")
    fake.referrers_api = False

    def as_digest(request: Request) -> None:
        if request.method != "PUT" and not request.path.endswith(".sig"):
            request.path = request.path.replace("/manifests/sha256-", "/manifests/sha256:")

    fake.faults.append(as_digest)
    for added, present in ((["attachment"], []), ([], ["attachment"])):
        done = sign.sign(registry, fake.name(), target, KEY)
        assert (done.added, done.present, list(done.failed)) == (added, present, ["bundle"])
        assert "takes the tag" in str(done.failed["bundle"])
    with pytest.raises(RegistryError, match="takes the tag"):
        sign.sign(registry, fake.name(), target, KEY, ["bundle"])


@pytest.mark.parametrize(
    "fault", [Reply(429, b"slow down"), Reply(200, b'{"manifests": []}', {"Content-Type": OCI_INDEX})]
)
def test_signing_again_adds_nothing_where_the_api_is_odd(fake: FakeRegistry, fault: Reply) -> None:
    fake.faults.append(lambda request: fault if "/referrers/" in request.path else None)
    registry = Registry()
    target = push_image(registry, fake.name(), "v1")
    assert sign.sign(registry, fake.name(), target, KEY).added == ["attachment", "bundle"]
    assert sign.sign(registry, fake.name(), target, KEY).present == ["attachment", "bundle"]


def test_signing_again_adds_nothing_beside_many_attestations(fake: FakeRegistry) -> None:
    registry = Registry()
    target = push_image(registry, fake.name(), "v1")
    fake.referrers_api = False
    kind = "https://spdx.dev/Document"
    sbom = bundle.sign(KEY, bundle.statement(target.digest, kind))
    proofs = [bundle.manifest(sbom + b" " * i, target, kind) for i in range(70)]
    entries = [
        descriptor.of(
            one, descriptor.OCI_MANIFEST, artifact_type=bundle.MEDIA_TYPE, annotations=json.loads(one)["annotations"]
        )
        for one in proofs
    ]
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [one.as_json() for one in entries]}
    registry.put_manifest(fake.name(), target.digest.replace(":", "-"), descriptor.encode(index), OCI_INDEX)
    assert sign.sign(registry, fake.name(), target, KEY, ["bundle"]).added == ["bundle"]
    assert sign.sign(registry, fake.name(), target, KEY, ["bundle"]).present == ["bundle"]
