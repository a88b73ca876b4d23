"""Attachments: our bytes are cosign's, and each way of being wrong has its own code beside a twin that is right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from oci import descriptor
from oci.errors import Malformed
from signing import attachment, keys
from signing.attachment import Attachment
from signing.verdicts import NotSigned

DATA = Path(__file__).parent / "data"
NAME = "127.0.0.1:5711/demo/key"
DIGEST = "sha256:f65c71f08983e4aabca236fb4813b36c58db9eb4798339860d9d0c15206e5074"
OTHER = "sha256:" + "a" * 64
KEY = keys.generate()


def read(name: str) -> bytes:
    return (DATA / name).read_bytes()


def cosigns() -> Attachment:
    ((layer, signature),) = attachment.listed(read("attachment-manifest.json"), "here")
    assert layer.size == len(read("attachment-payload.json"))
    return Attachment(read("attachment-payload.json"), signature)


def code_of(one: Attachment, name: str = NAME, digest: str = DIGEST) -> str:
    with pytest.raises(NotSigned) as caught:
        attachment.verify(one, [KEY.public], name, digest)
    assert caught.value.exit_code == 1
    assert caught.value.code in str(caught.value)
    return caught.value.code


def test_our_payload_is_cosigns() -> None:
    assert attachment.payload(NAME, DIGEST) == read("attachment-payload.json")


def test_our_manifest_and_config_are_cosigns() -> None:
    manifest, config = attachment.appended(None, cosigns(), "here")
    assert manifest == read("attachment-manifest.json")
    assert config == read("attachment-config.json")


def test_cosigns_signature_holds() -> None:
    signer = keys.load_public(DATA / "signer.pub")
    assert attachment.verify(cosigns(), [KEY.public, signer], NAME, DIGEST) == signer


def test_our_signature_holds() -> None:
    one = attachment.sign(KEY, attachment.payload(NAME, DIGEST))
    assert attachment.verify(one, [KEY.public], NAME, DIGEST) == KEY.public


def test_by_another_key() -> None:
    assert code_of(attachment.sign(keys.generate(), attachment.payload(NAME, DIGEST))) == "BAD_SIGNATURE"


def test_an_altered_payload() -> None:
    good = attachment.sign(KEY, attachment.payload(NAME, OTHER))
    assert code_of(Attachment(attachment.payload(NAME, DIGEST), good.signature)) == "BAD_SIGNATURE"


def test_for_another_digest() -> None:
    assert code_of(attachment.sign(KEY, attachment.payload(NAME, OTHER))) == "OTHER_IMAGE"


@pytest.mark.parametrize("other", ["127.0.0.1:5711/demo/key2", "127.0.0.1:5711/demo", "demo/key", "", f"{NAME}:v1"])
def test_for_another_repository(other: str) -> None:
    assert code_of(attachment.sign(KEY, attachment.payload(other, DIGEST))) == "OTHER_IMAGE"


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
def test_a_signed_payload_that_is_no_claim(content: bytes) -> None:
    assert code_of(attachment.sign(KEY, content)) == "MALFORMED"


@pytest.mark.parametrize("signature", ["", "***", "é", "AAAA"])
def test_a_signature_that_is_none(signature: str) -> None:
    one = Attachment(attachment.payload(NAME, DIGEST), signature)
    assert code_of(one) == ("MALFORMED" if signature in {"***", "é"} else "BAD_SIGNATURE")


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
