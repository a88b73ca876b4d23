"""Verifying an image: one good signature is enough, a bad one hides none, and the furthest failure names the code."""

from __future__ import annotations

import pytest

from oci.descriptor import OCI_MANIFEST, Descriptor
from oci.reference import Reference, parse
from oci.registry import Registry
from signing import attachment, bundle, keys, sign, stored
from signing.attachment import Attachment
from signing.formats import FORMATS, Format
from signing.verdicts import NotSigned, furthest
from signing.verify import verify
from tests.fake_registry import FakeRegistry
from tests.images import push_image

KEY, OTHER_KEY = keys.generate(), keys.generate()
OTHER = "sha256:" + "a" * 64


class Image:
    """An image in the fake registry, to hang signatures of every kind on."""

    def __init__(self, fake: FakeRegistry) -> None:
        self.fake, self.registry, self.name = fake, Registry(), fake.name()
        self.target: Descriptor = push_image(self.registry, self.name, "v1")
        self.ref: Reference = parse(f"{self.name}:v1")

    def attach(self, one: Attachment) -> None:
        stored.add_attachment(self.registry, self.name, self.target.digest, one)

    def hang(self, content: bytes) -> None:
        stored.add_bundle(self.registry, self.name, self.target, content)

    def code(self) -> str:
        with pytest.raises(NotSigned) as caught:
            verify(self.registry, self.ref, [KEY.public])
        assert str(self.ref.at(self.target.digest)) in str(caught.value)
        return caught.value.code

    def holds(self) -> list[str]:
        digest, checks = verify(self.registry, self.ref, [KEY.public])
        assert digest == self.target.digest
        return [one.format for one in checks if one.key == KEY.public]


@pytest.fixture
def image(fake: FakeRegistry) -> Image:
    return Image(fake)


def attached(key: keys.PrivateKey, name: str, digest: str) -> Attachment:
    return attachment.sign(key, attachment.payload(name, digest))


def test_nothing_there(image: Image) -> None:
    assert image.code() == "UNSIGNED"


@pytest.mark.parametrize("chosen", FORMATS)
def test_one_good_signature_is_enough(image: Image, chosen: Format) -> None:
    sign.sign(image.registry, image.name, image.target, KEY, [chosen])
    assert image.holds() == [chosen]


@pytest.mark.parametrize("chosen", FORMATS)
def test_by_an_unknown_key(image: Image, chosen: Format) -> None:
    sign.sign(image.registry, image.name, image.target, OTHER_KEY, [chosen])
    assert image.code() == "BAD_SIGNATURE"


@pytest.mark.parametrize("chosen", FORMATS)
def test_a_bad_signature_hides_no_good_one(image: Image, chosen: Format) -> None:
    sign.sign(image.registry, image.name, image.target, OTHER_KEY)
    sign.sign(image.registry, image.name, image.target, KEY, [chosen])
    assert image.holds() == [chosen]


def test_an_image_copied_with_its_attachment(image: Image) -> None:
    image.attach(attached(KEY, "elsewhere.example/app", image.target.digest))
    assert image.code() == "OTHER_IMAGE"


def test_an_image_copied_with_its_bundle(image: Image) -> None:
    image.hang(bundle.sign(KEY, bundle.statement(image.target.digest)))
    assert image.holds() == ["bundle"]


def test_nothing_but_an_sbom(image: Image) -> None:
    image.hang(bundle.sign(KEY, bundle.statement(image.target.digest, "https://spdx.dev/Document")))
    assert image.code() == "UNSIGNED"


def test_the_failure_that_got_furthest_names_the_code_and_all_are_listed(image: Image) -> None:
    image.attach(attached(OTHER_KEY, image.name, image.target.digest))
    image.attach(attached(KEY, image.name, OTHER))
    image.hang(b"{}")
    with pytest.raises(NotSigned) as caught:
        verify(image.registry, image.ref, [KEY.public])
    assert caught.value.code == "OTHER_IMAGE"
    assert [detail.split(": ")[:2] for detail in caught.value.details] == [
        ["attachment", "BAD_SIGNATURE"],
        ["attachment", "OTHER_IMAGE"],
        ["bundle", "MALFORMED"],
    ]


def test_a_payload_that_is_gone_hides_no_good_signature(image: Image) -> None:
    image.attach(gone := attached(OTHER_KEY, image.name, OTHER))
    del image.fake.blobs[gone.layer.digest]
    assert image.code() == "MALFORMED"
    image.attach(attached(KEY, image.name, image.target.digest))
    assert image.holds() == ["attachment"]


def test_a_payload_with_other_bytes_than_its_digest(image: Image) -> None:
    image.attach(one := attached(KEY, image.name, image.target.digest))
    image.fake.blobs[one.layer.digest] += b" "
    assert image.code() == "TAMPERED"


def test_a_payload_over_its_bound(image: Image) -> None:
    image.attach(attachment.sign(KEY, b" " * (attachment.PAYLOAD_LIMIT + 1)))
    assert image.code() == "MALFORMED"


def test_an_image_of_signatures_that_cannot_be_read_hides_no_bundle(image: Image) -> None:
    image.fake.manifests["demo/app", attachment.tag(image.target.digest)] = (b'{"layers": 1}', OCI_MANIFEST)
    assert image.code() == "MALFORMED"
    image.hang(bundle.sign(KEY, bundle.statement(image.target.digest)))
    assert image.holds() == ["bundle"]


def test_too_many_signatures_are_refused(image: Image) -> None:
    manifest = None
    for i in range(65):
        manifest, _ = attachment.appended(manifest, Attachment(str(i).encode(), "AAAA"), "here")
    assert manifest is not None
    image.fake.manifests["demo/app", attachment.tag(image.target.digest)] = (manifest, OCI_MANIFEST)
    assert image.code() == "MALFORMED"


def test_a_moved_tag_has_the_signatures_of_what_it_names_now(image: Image) -> None:
    sign.sign(image.registry, image.name, image.target, KEY)
    image.target = push_image(image.registry, image.name, "v1", "moved")
    assert image.code() == "UNSIGNED"


def test_the_order_of_failures() -> None:
    codes = ["MALFORMED", "OTHER_IMAGE", "UNSIGNED", "TAMPERED", "BAD_SIGNATURE"]
    found = [NotSigned(code, "x") for code in codes]
    ranked = []
    while found:
        ranked.append(furthest(found).code)
        found.remove(furthest(found))
    assert ranked == ["OTHER_IMAGE", "TAMPERED", "BAD_SIGNATURE", "MALFORMED", "UNSIGNED"]
