"""Bundles: our bytes are cosign's, and each way of being wrong has its own code beside a twin that is right."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from oci import descriptor
from oci.descriptor import DOCKER_MANIFEST, OCI_MANIFEST, Descriptor
from oci.errors import Malformed
from signing import bundle, keys
from signing.verdicts import NotSigned

DATA = Path(__file__).parent / "data"
DIGEST = "sha256:f65c71f08983e4aabca236fb4813b36c58db9eb4798339860d9d0c15206e5074"
OTHER = "sha256:" + "a" * 64
KEY = keys.generate()
COSIGNS = (DATA / "bundle.json").read_bytes()


def code_of(content: bytes, digest: str = DIGEST) -> str:
    with pytest.raises(NotSigned) as caught:
        bundle.verify(content, [KEY.public], digest)
    return caught.value.code


def test_our_statement_is_cosigns() -> None:
    assert bundle.statement(DIGEST) == bundle.parse(COSIGNS).payload


def test_our_bundle_is_cosigns() -> None:
    theirs = bundle.parse(COSIGNS)
    assert bundle.wrap(theirs.payload, theirs.signature, theirs.hint) == COSIGNS


def test_our_manifest_says_what_cosigns_says() -> None:
    theirs = json.loads((DATA / "bundle-manifest.json").read_bytes())
    subject = Descriptor(DOCKER_MANIFEST, DIGEST, 427)
    ours = json.loads(bundle.manifest(COSIGNS, subject))
    del theirs["config"]["artifactType"]  # no field of a manifest's config in the specification
    created = "org.opencontainers.image.created"
    assert len(ours["annotations"].pop(created)) == len(theirs["annotations"].pop(created))
    assert ours == theirs


def test_cosigns_bundle_holds() -> None:
    signer = keys.load_public(DATA / "signer.pub")
    assert bundle.verify(COSIGNS, [KEY.public, signer], DIGEST) == signer


def test_our_bundle_holds() -> None:
    assert bundle.verify(bundle.sign(KEY, bundle.statement(DIGEST)), [KEY.public], DIGEST) == KEY.public


def test_the_hint_is_no_more_than_a_hint() -> None:
    good = bundle.parse(bundle.sign(KEY, bundle.statement(DIGEST)))
    assert bundle.verify(bundle.wrap(good.payload, good.signature, "?"), [KEY.public], DIGEST) == KEY.public


def test_by_another_key() -> None:
    assert code_of(bundle.sign(keys.generate(), bundle.statement(DIGEST))) == "BAD_SIGNATURE"


def test_by_another_key_in_the_name_of_ours() -> None:
    theirs = bundle.parse(bundle.sign(keys.generate(), bundle.statement(DIGEST)))
    assert code_of(bundle.wrap(theirs.payload, theirs.signature, KEY.public.hint)) == "TAMPERED"


def test_an_altered_statement() -> None:
    good = bundle.parse(bundle.sign(KEY, bundle.statement(OTHER)))
    assert code_of(bundle.wrap(bundle.statement(DIGEST), good.signature, good.hint)) == "TAMPERED"


def test_a_signature_over_the_payload_without_its_type() -> None:
    payload = bundle.statement(DIGEST)
    assert code_of(bundle.wrap(payload, KEY.sign(payload), "")) == "BAD_SIGNATURE"


def test_for_another_digest() -> None:
    assert code_of(bundle.sign(KEY, bundle.statement(OTHER))) == "OTHER_IMAGE"


@pytest.mark.parametrize("kind", ["https://spdx.dev/Document", "https://slsa.dev/provenance/v1", ""])
def test_a_statement_of_something_else_is_no_signature(kind: str) -> None:
    assert code_of(bundle.sign(KEY, bundle.statement(DIGEST, kind, {"name": "sbom"}))) == "UNSIGNED"


def test_by_a_certificate() -> None:
    assert code_of((DATA / "bundle-certificate.json").read_bytes()) == "BAD_SIGNATURE"


def changed(**change: Any) -> bytes:
    document = json.loads(bundle.sign(KEY, bundle.statement(DIGEST)))
    return descriptor.encode(document | change)


def enveloped(**change: Any) -> bytes:
    return changed(dsseEnvelope=json.loads(changed())["dsseEnvelope"] | change)


ONE = {"sig": base64.b64encode(b"x").decode()}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b"[" * 100_000,
        changed(mediaType="application/vnd.dev.sigstore.bundle+json;version=0.1"),
        changed(verificationMaterial=1),
        changed(verificationMaterial={"publicKey": 1}),
        changed(dsseEnvelope=None),
        enveloped(payload="***"),
        enveloped(payloadType="text/plain"),
        enveloped(signatures=[]),
        enveloped(signatures=[ONE, ONE]),
        enveloped(signatures=[{"sig": "***"}]),
        bundle.sign(KEY, b"[]"),
        bundle.sign(KEY, b"{}"),
        bundle.sign(KEY, bundle.statement(DIGEST).replace(b"Statement/v1", b"Statement/v0.1")),
        bundle.sign(KEY, bundle.statement(DIGEST).replace(b'"subject":[', b'"subject":[1,')),
    ],
)
def test_what_is_no_bundle(content: bytes) -> None:
    assert code_of(content) == "MALFORMED"


def test_claim_is_the_reverse_of_statement() -> None:
    said = bundle.claim(bundle.statement(DIGEST))
    assert (said.predicate_type, said.digests) == (bundle.PREDICATE_TYPE, (DIGEST,))


def test_an_sbom_in_the_older_statement_that_cosign_attest_writes_is_no_signature() -> None:
    older = bundle.statement(DIGEST, "https://spdx.dev/Document").replace(b"Statement/v1", b"Statement/v0.1")
    assert code_of(bundle.sign(KEY, older)) == "UNSIGNED"


@pytest.mark.parametrize("others", [0, 1])
def test_a_statement_is_about_one_subject_alone(others: int) -> None:
    document = json.loads(bundle.statement(DIGEST))
    document["subject"] += json.loads(bundle.statement(OTHER))["subject"] * others
    document["subject"][0]["digest"]["sha512"] = "b" * 128
    content = bundle.sign(KEY, descriptor.encode(document))
    if others:
        assert code_of(content) == "OTHER_IMAGE"
    else:
        assert bundle.verify(content, [KEY.public], DIGEST) == KEY.public


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
