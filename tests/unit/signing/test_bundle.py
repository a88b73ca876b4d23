"""Bundles: our bytes are cosign's, and each way of being wrong has its own code beside a twin that is right."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from countersign.keys import pair as keys
from countersign.oci import descriptor
from countersign.oci.descriptor import DOCKER_MANIFEST, OCI_MANIFEST, Descriptor
from countersign.oci.errors import Malformed
from signing import bundle

DATA = Path(__file__).parent / "data"
DIGEST = "sha256:f65c71f08983e4aabca236fb4813b36c58db9eb4798339860d9d0c15206e5074"
OTHER = "sha256:" + "a" * 64
KEY = keys.generate()
COSIGNS = (DATA / "bundle.json").read_bytes()
OURS = bundle.sign(KEY, bundle.statement(DIGEST))


def signature(content: bytes) -> bytes:
    return base64.b64decode(json.loads(content)["dsseEnvelope"]["signatures"][0]["sig"])


def test_our_statement_is_cosigns() -> None:
    assert bundle.statement(DIGEST) == base64.b64decode(json.loads(COSIGNS)["dsseEnvelope"]["payload"])


def test_our_bundle_is_cosigns() -> None:
    hint = json.loads(COSIGNS)["verificationMaterial"]["publicKey"]["hint"]
    assert bundle.wrap(bundle.statement(DIGEST), signature(COSIGNS), hint) == COSIGNS


def test_our_manifest_says_what_cosigns_says() -> None:
    theirs = json.loads((DATA / "bundle-manifest.json").read_bytes())
    subject = Descriptor(DOCKER_MANIFEST, DIGEST, 427)
    ours = json.loads(bundle.manifest(COSIGNS, subject))
    del theirs["config"]["artifactType"]  # no field of a manifest's config in the specification
    created = "org.opencontainers.image.created"
    assert len(ours["annotations"].pop(created)) == len(theirs["annotations"].pop(created))
    assert ours == theirs


def test_what_we_would_write_is_there() -> None:
    assert bundle.signed_by(keys.load_public(DATA / "signer.pub"), COSIGNS, bundle.statement(DIGEST))
    assert bundle.signed_by(KEY.public, OURS, bundle.statement(DIGEST))
    assert bundle.signed_by(
        KEY.public, json.dumps(json.loads(OURS), indent=1).encode() + b"\n", bundle.statement(DIGEST)
    )
    spaced = json.dumps(json.loads(bundle.statement(DIGEST))).encode()
    assert bundle.signed_by(KEY.public, bundle.sign(KEY, spaced), bundle.statement(DIGEST))


def changed(**change: Any) -> bytes:
    return descriptor.encode(json.loads(OURS) | change)


def enveloped(**change: Any) -> bytes:
    return changed(dsseEnvelope=json.loads(OURS)["dsseEnvelope"] | change)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"[" * 100_000,
        COSIGNS,
        bundle.sign(keys.generate(), bundle.statement(DIGEST)),
        bundle.wrap(bundle.statement(DIGEST), KEY.sign(bundle.statement(DIGEST)), KEY.public.hint),
        bundle.wrap(bundle.statement(DIGEST), signature(OURS), "another hint"),
        bundle.sign(KEY, bundle.statement(OTHER)),
        bundle.sign(KEY, bundle.statement(DIGEST, "https://spdx.dev/Document")),
        bundle.sign(KEY, bundle.statement(DIGEST, predicate={"more": 1})),
        changed(more=1),
        enveloped(signatures=[]),
        enveloped(signatures=[{"sig": base64.b64encode(signature(OURS)).decode(), "keyid": "x"}]),
        enveloped(signatures=[{"sig": "***"}]),
        OURS.replace(b'"sig":"', b'"sig":" '),
        OURS.replace(b'{"mediaType"', b'{"mediaType":1,"mediaType"'),
    ],
)
def test_anything_else_is_not_what_we_would_write(content: bytes) -> None:
    assert not bundle.signed_by(KEY.public, content, bundle.statement(DIGEST))


def test_a_claim_is_read_whoever_signed_it() -> None:
    for content in (OURS, COSIGNS):
        said = bundle.claim(content)
        assert (said.predicate_type, said.digests) == (bundle.PREDICATE_TYPE, (DIGEST,))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b"[" * 100_000,
        changed(dsseEnvelope=None),
        enveloped(payload="***"),
        bundle.sign(KEY, b"[]"),
        bundle.sign(KEY, b"{}"),
        bundle.sign(KEY, bundle.statement(DIGEST).replace(b'"subject":[', b'"subject":[1,')),
    ],
)
def test_what_is_no_bundle(content: bytes) -> None:
    with pytest.raises(Malformed):
        bundle.claim(content)


def test_the_bundle_is_the_manifests_one_layer() -> None:
    assert bundle.layer((DATA / "bundle-manifest.json").read_bytes(), "here") == descriptor.of(
        COSIGNS, bundle.MEDIA_TYPE
    )


@pytest.mark.parametrize(
    "layers", [[], [descriptor.of(b"x", "x/y").as_json()], [descriptor.of(b"x", bundle.MEDIA_TYPE).as_json()] * 2, 1]
)
def test_a_manifest_that_is_no_bundles(layers: object) -> None:
    with pytest.raises(Malformed, match="here"):
        bundle.layer(descriptor.encode({"mediaType": OCI_MANIFEST, "layers": layers}), "here")
