"""Signing with a certificate: what is refused before anything is signed, and what is written."""

from __future__ import annotations

import base64
import datetime as dt
import ipaddress
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from countersign.console.errors import InfrastructureError, UsageError
from countersign.keys import pair as keys
from countersign.oci.registry import Registry
from lab.trials import authority
from lab.trials.authority import Authority, Signer
from signing import attachment, bundle, certified, sign, stored, timestamp
from signing.certified import ByCertificate
from signing.timestamp import Server
from tests.fake_registry import FakeRegistry, Reply, Request, serving
from tests.images import push_image

CA, OTHER_CA = authority.make(), authority.make()
EMAIL = x509.RFC822Name("release@acme.example")
GOOD = CA.issue(EMAIL)
HOUR = dt.timedelta(hours=1)


def write(folder: Path, *texts: str) -> Path:
    path = folder / "certificates.pem"
    path.write_text("".join(texts))
    return path


def load(folder: Path, signer: Signer, ca: Authority = CA, **more: Any) -> ByCertificate:
    return certified.signer(signer.key, certified.load(write(folder, signer.pem, ca.pem), **more))


def test_a_certificate_is_read_with_its_chain(tmp_path: Path) -> None:
    found = load(tmp_path, GOOD)
    assert (found.leaf, [one.subject for one in found.chain]) == (GOOD.certificate, [CA.certificate.subject])
    chain = tmp_path / "chain.pem"
    chain.write_text(CA.pem)
    assert certified.signer(GOOD.key, certified.load(write(tmp_path, GOOD.pem), chain)) == found
    assert found.about["certificate"]["names"] == ["release@acme.example"]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"valid": (-2 * HOUR, -HOUR)}, "valid from"),
        ({"valid": (HOUR, 2 * HOUR)}, "valid from"),
        ({"usage": authority.SERVER_AUTH}, "not for signing code"),
        ({"name": x509.IPAddress(ipaddress.ip_address("127.0.0.1"))}, "has no name"),
    ],
)
def test_a_certificate_that_no_verifier_takes_is_refused(tmp_path: Path, change: dict[str, Any], found: str) -> None:
    signer = CA.issue(**{"name": EMAIL, **change})
    with pytest.raises(UsageError, match=found):
        load(tmp_path, signer)


def test_what_does_not_belong_together_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="of another key"):
        certified.signer(keys.generate(), certified.load(write(tmp_path, GOOD.pem)))
    with pytest.raises(UsageError, match="has not issued"):
        load(tmp_path, GOOD, OTHER_CA)
    with pytest.raises(UsageError, match="an authority's"):
        certified.signer(keys.PrivateKey(_public(CA), GOOD.key._key), certified.load(write(tmp_path, CA.pem)))
    with pytest.raises(UsageError, match="and a chain"):
        load(tmp_path, GOOD, chain=tmp_path / "certificates.pem")


def _public(ca: Authority) -> keys.PublicKey:
    key = ca.certificate.public_key()
    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return keys.parse_public(pem, "CA")


@pytest.mark.parametrize(
    "text", ["", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", GOOD.pem * 11]
)
def test_a_file_without_a_certificate_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="no certificate that can be read"):
        certified.read(write(tmp_path, text))


def test_a_private_key_is_not_taken_for_a_certificate(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a private key where"):
        certified.read(write(tmp_path, "-----BEGIN PRIVATE KEY-----\n"))


def test_both_formats_have_the_certificate_and_are_added_once(fake: FakeRegistry, tmp_path: Path) -> None:
    registry = Registry()
    target = push_image(registry, fake.name(), "v1")
    signer = load(tmp_path, GOOD)
    assert sign.sign(registry, fake.name(), target, signer).added == ["attachment", "bundle"]
    assert sign.sign(registry, fake.name(), target, signer).present == ["attachment", "bundle"]
    (one,) = stored.listed(registry, fake.name(), target.digest, "attachment")
    beside = {certified.CERTIFICATE: GOOD.pem, certified.CHAIN: CA.pem, attachment.SIGNATURE: one.signature}
    assert one.entry.annotations == beside
    (two,) = stored.listed(registry, fake.name(), target.digest, "bundle")
    material = json.loads(stored.content(registry, fake.name(), two))["verificationMaterial"]
    assert material == {"certificate": {"rawBytes": base64.b64encode(GOOD.der).decode()}}


def test_the_same_key_with_another_certificate_or_none_adds_its_own(fake: FakeRegistry, tmp_path: Path) -> None:
    registry = Registry()
    target = push_image(registry, fake.name(), "v1")
    sign.sign(registry, fake.name(), target, load(tmp_path, GOOD))
    bare = ByCertificate(GOOD.key, GOOD.certificate)
    assert sign.sign(registry, fake.name(), target, bare).present == ["bundle"]  # it never has the chain
    assert sign.sign(registry, fake.name(), target, GOOD.key, ["bundle"]).added == ["bundle"]


def test_a_bundle_that_does_not_hold_is_not_taken_for_ours(fake: FakeRegistry) -> None:
    registry = Registry()
    target = push_image(registry, fake.name(), "v1")
    signer = ByCertificate(GOOD.key, GOOD.certificate)
    stated = bundle.statement(target.digest)
    forged = bundle.enclose(stated, keys.generate().sign(bundle.pae(stated)), signer._material)
    stored.add_bundle(registry, fake.name(), target, forged)
    assert sign.sign(registry, fake.name(), target, signer, ["bundle"]).added == ["bundle"]


def test_a_timestamp_server_that_does_not_answer_as_it_should() -> None:
    with serving() as server:
        url = f"http://{server.netloc}/tsa"
        for reply, found in [(Reply(500), "HTTP 500"), (Reply(200, b"x"), "no timestamp that can be read"),
                             (Reply(200, b"x" * 70_000), "HTTP 200")]:  # fmt: skip
            server.faults[:] = [partial(_answer, reply)]
            with pytest.raises(InfrastructureError, match=found):
                Server(url).stamp(b"a signature")
    with pytest.raises(InfrastructureError, match="does not answer"):
        Server(url).stamp(b"a signature")


def _answer(reply: Reply, _: Request) -> Reply:
    return reply


@pytest.mark.parametrize("url", ["http://tsa.example/", "tsa.example", "ftp://127.0.0.1/", "https://", "http://[::1"])
def test_only_a_url_of_a_timestamp_server_is_taken(url: str) -> None:
    with pytest.raises(UsageError, match="timestamp_server"):
        Server(url)


def test_a_timestamp_is_of_this_very_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    class Said:
        status = 0
        status_string: tuple[str, ...] = ()

        class tst_info:  # noqa: N801  as the library calls it
            nonce = 1

            class message_imprint:  # noqa: N801
                message = b"of something else"

    with serving() as server:
        server.faults.append(lambda _: Reply(200, b"response"))
        monkeypatch.setattr("rfc3161_client.decode_timestamp_response", lambda _: Said)
        with pytest.raises(InfrastructureError, match="a timestamp of something else"):
            Server(f"http://{server.netloc}/tsa").stamp(b"a signature")


def test_a_timestamp_lies_beside_the_signature(fake: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry()
    target = push_image(registry, fake.name(), "v1")
    stamped: list[bytes] = []

    def stamp(_: Server, signature: bytes) -> bytes:
        stamped.append(signature)
        return b"response"

    monkeypatch.setattr(Server, "stamp", stamp)
    signer = ByCertificate(GOOD.key, GOOD.certificate, server=Server("https://tsa.example/"))
    for _ in range(2):  # each time a new one
        assert sign.sign(registry, fake.name(), target, signer).added == ["attachment", "bundle"]
    one, _ = stored.listed(registry, fake.name(), target.digest, "attachment")
    assert json.loads(one.entry.annotations[timestamp.ANNOTATION]) == {"SignedRFC3161Timestamp": "cmVzcG9uc2U="}
    assert base64.b64decode(one.signature) in stamped
    two = stored.listed(registry, fake.name(), target.digest, "bundle")[0]
    document = json.loads(stored.content(registry, fake.name(), two))
    times = document["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"]
    assert times == [{"signedTimestamp": "cmVzcG9uc2U="}]
    assert base64.b64decode(document["dsseEnvelope"]["signatures"][0]["sig"]) in stamped
