"""The tree shows what hangs on each digest of an image, readable or not."""

from __future__ import annotations

from countersign.keys import pair as keys
from countersign.oci import digest as digests
from countersign.oci.descriptor import OCI_MANIFEST
from countersign.oci.reference import parse
from countersign.oci.registry import Registry
from signing import attachment, bundle, sign, stored
from signing.tree import tree
from tests.fake_registry import FakeRegistry
from tests.images import push_image, push_index

KEY = keys.generate()


def test_signatures_hang_on_the_digest_that_they_sign(fake: FakeRegistry) -> None:
    registry = Registry()
    amd, arm = (push_image(registry, fake.name(), marker=marker) for marker in ("amd", "arm"))
    index = push_index(registry, fake.name(), "v1", {"linux/amd64": amd, "linux/arm64": arm})
    sign.sign(registry, fake.name(), index, KEY)
    sign.sign(registry, fake.name(), amd, KEY, ["bundle"])
    root = tree(registry, parse(f"{fake.name()}:v1"))
    assert (root.kind, root.digest) == ("index", index.digest)
    assert [(leaf.kind, leaf.about) for leaf in root.leaves] == [
        ("attachment", f"names {fake.name()}"),
        ("bundle", "signature"),
    ]
    assert [(child.platform, child.digest) for child in root.children] == [
        ("linux/amd64", amd.digest),
        ("linux/arm64", arm.digest),
    ]
    assert [[leaf.kind for leaf in child.leaves] for child in root.children] == [["bundle"], []]
    assert root.as_json()["children"][0]["leaves"][0]["kind"] == "bundle"


def test_what_is_no_signature_of_this_image_says_so(fake: FakeRegistry) -> None:
    registry = Registry()
    target = push_image(registry, fake.name(), "v1")
    other = "sha256:" + "a" * 64
    stored.add_attachment(registry, fake.name(), target.digest, attachment.sign(KEY, attachment.payload("x/y", other)))
    stored.add_attachment(registry, fake.name(), target.digest, attachment.sign(KEY, b"no"))
    for content in (bundle.statement(other), bundle.statement(target.digest, "https://spdx.dev/Document")):
        stored.add_bundle(registry, fake.name(), target, bundle.sign(KEY, content))
    stored.add_bundle(registry, fake.name(), target, b"no")
    registry.put_manifest(fake.name(), digests.tag(target.digest, ".att"), b'{"layers": []}', OCI_MANIFEST)
    leaves = [(leaf.kind, leaf.about) for leaf in tree(registry, parse(f"{fake.name()}:v1")).leaves]
    assert leaves == [
        ("attachment", f"names x/y and another digest, {other}"),
        ("attachment", "unreadable: the payload is not a claim about an image"),
        ("bundle", f"signature of another digest, {other}"),
        ("bundle", "https://spdx.dev/Document"),
        ("bundle", "unreadable: no bundle with an in-toto statement"),
        ("attestation", f"tag {digests.tag(target.digest, '.att')}"),
    ]
