"""Attachments: our bytes are cosign's, and each way of being wrong has its own code beside a twin that is right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from countersign.keys import pair as keys
from countersign.oci import descriptor
from countersign.oci.errors import Malformed
from signing import attachment
from signing.attachment import Attachment

DATA = Path(__file__).parent / "data"
NAME = "127.0.0.1:5711/demo/key"
DIGEST = "sha256:f65c71f08983e4aabca236fb4813b36c58db9eb4798339860d9d0c15206e5074"
OTHER = "sha256:" + "a" * 64
KEY = keys.generate()
PAYLOAD = attachment.payload(NAME, DIGEST)
OURS = attachment.sign(KEY, PAYLOAD)


def read(name: str) -> bytes:
    return (DATA / name).read_bytes()


def cosigns() -> Attachment:
    ((layer, signature),) = attachment.listed(read("attachment-manifest.json"), "here")
    assert layer.size == len(read("attachment-payload.json"))
    return Attachment(read("attachment-payload.json"), signature)


def test_our_payload_is_cosigns() -> None:
    assert attachment.payload(NAME, DIGEST) == read("attachment-payload.json")


def test_our_manifest_and_config_are_cosigns() -> None:
    manifest, config = attachment.appended(None, cosigns(), "here")
    assert manifest == read("attachment-manifest.json")
    assert config == read("attachment-config.json")


def test_what_we_would_write_is_there() -> None:
    assert attachment.signed_by(keys.load_public(DATA / "signer.pub"), cosigns(), attachment.payload(NAME, DIGEST))
    assert attachment.signed_by(KEY.public, OURS, attachment.payload(NAME, DIGEST))


@pytest.mark.parametrize(
    "one",
    [
        cosigns(),
        attachment.sign(keys.generate(), PAYLOAD),
        attachment.sign(KEY, attachment.payload(NAME, OTHER)),
        attachment.sign(KEY, attachment.payload(f"{NAME}:v1", DIGEST)),
        attachment.sign(KEY, PAYLOAD.replace(b"null", b'{"creator":"x"}')),
        Attachment(PAYLOAD, attachment.sign(KEY, attachment.payload(NAME, OTHER)).signature),
        *(Attachment(PAYLOAD, signature) for signature in ("", "***", "é", "AAAA")),
    ],
)
def test_anything_else_is_not_what_we_would_write(one: Attachment) -> None:
    assert not attachment.signed_by(KEY.public, one, attachment.payload(NAME, DIGEST))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"critical": 1}',
        b"[" * 100_000,
        attachment.payload(NAME, DIGEST).replace(b"cosign container", b"atomic container"),
        attachment.payload(NAME, DIGEST).replace(f'"{DIGEST}"'.encode(), b"1"),
    ],
)
def test_a_payload_that_is_no_claim(content: bytes) -> None:
    with pytest.raises(Malformed):
        attachment.claim(content)


def test_claim_is_the_reverse_of_payload() -> None:
    assert attachment.claim(attachment.payload(NAME, DIGEST)) == (NAME, DIGEST)


def test_what_an_image_of_signatures_has_stays() -> None:
    document = json.loads(read("attachment-manifest.json"))
    document["layers"][0]["annotations"]["dev.sigstore.cosign/bundle"] = "{}"
    document["layers"].append({"mediaType": "x/y", "digest": OTHER, "size": 1, "unknown": 1})
    document["annotations"] = {"kept": "yes"}
    before = descriptor.encode(document)
    new = attachment.sign(KEY, attachment.payload(NAME, DIGEST))
    after, config = attachment.appended(before, new, "here")
    now = json.loads(after)
    assert now["layers"][:2] == document["layers"]
    assert now["layers"][2] == new.layer.as_json()
    assert now["annotations"] == {"kept": "yes"}
    assert json.loads(config)["rootfs"]["diff_ids"] == [layer["digest"] for layer in now["layers"]]
    assert now["config"]["digest"] == descriptor.of(config, "x").digest


def test_layers_of_other_kinds_are_no_signatures() -> None:
    document = json.loads(read("attachment-manifest.json"))
    document["layers"][0]["mediaType"] = "x/y"
    assert attachment.listed(descriptor.encode(document), "here") == []


@pytest.mark.parametrize("manifest", [b"no", b"[]", b"{}", b'{"layers": [1]}'])
def test_an_image_of_signatures_that_cannot_be_read(manifest: bytes) -> None:
    with pytest.raises(Malformed, match="here"):
        attachment.listed(manifest, "here")
    with pytest.raises(Malformed, match="here"):
        attachment.appended(manifest, cosigns(), "here")


def test_the_tag_is_cosigns() -> None:
    assert attachment.tag(DIGEST) == f"sha256-{DIGEST[7:]}.sig"
