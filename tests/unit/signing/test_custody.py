"""Where keys are kept: what users write, and what is asked of libraries whose services cannot be had here."""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature

from countersign.console.errors import CountersignError, InfrastructureError, MissingError, UsageError
from countersign.keys import hsm, source
from countersign.keys import pair as keys
from countersign.keys.sealed import BadKey
from signing import attachment, bundle

EC, RSA = ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)
DIGEST = "sha256:" + "1" * 64
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def signed(key: Key, digest: bytes) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(digest, padding.PKCS1v15(), Prehashed(hashes.SHA256()))
    return key.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256())))


def spki(key: Key, encoding: serialization.Encoding = serialization.Encoding.PEM) -> bytes:
    return key.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)


def module(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> None:
    """Put a library in place, with what is asked of it."""
    made = ModuleType(name)
    vars(made).update(members)
    monkeypatch.setitem(sys.modules, name, made)


def aws(monkeypatch: pytest.MonkeyPatch, key: Key) -> str:
    class Client:
        def get_public_key(self, *, KeyId: str) -> dict[str, Any]:  # noqa: N803
            assert KeyId == "alias/release"
            return {"PublicKey": spki(key, serialization.Encoding.DER)}

        def sign(self, **asked: Any) -> dict[str, Any]:
            algorithm = "RSASSA_PKCS1_V1_5_SHA_256" if isinstance(key, rsa.RSAPrivateKey) else "ECDSA_SHA_256"
            digest = asked.pop("Message")
            assert asked == {"KeyId": "alias/release", "MessageType": "DIGEST", "SigningAlgorithm": algorithm}
            return {"Signature": signed(key, digest)}

    module(monkeypatch, "boto3", client=lambda service, **_: Client() if service == "kms" else None)
    return "awskms:///alias/release"


def gcp(monkeypatch: pytest.MonkeyPatch, key: Key) -> str:
    name = "projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/3"

    class Client:
        def get_public_key(self, *, request: dict[str, str]) -> SimpleNamespace:
            assert request == {"name": name}
            return SimpleNamespace(pem=spki(key).decode())

        def asymmetric_sign(self, *, request: dict[str, Any]) -> SimpleNamespace:
            assert request["name"] == name
            return SimpleNamespace(signature=signed(key, request["digest"]["sha256"]))

    for part in ("google", "google.cloud"):
        module(monkeypatch, part)
    module(monkeypatch, "google.cloud.kms", KeyManagementServiceClient=Client)
    return f"gcpkms://{name.replace('cryptoKeyVersions', 'versions')}"


def azure(monkeypatch: pytest.MonkeyPatch, key: Key) -> str:
    numbers = key.public_key().public_numbers()
    if isinstance(numbers, rsa.RSAPublicNumbers):
        jwk = SimpleNamespace(kty="RSA", n=numbers.n.to_bytes(256, "big"), e=numbers.e.to_bytes(3, "big"))
    else:
        jwk = SimpleNamespace(kty="EC", crv="P-256", x=numbers.x.to_bytes(32, "big"), y=numbers.y.to_bytes(32, "big"))

    class Keys:
        def __init__(self, url: str, who: object) -> None:
            assert (url, who) == ("https://acme.vault.azure.net", "me")

        def get_key(self, name: str, version: str | None) -> SimpleNamespace:
            assert (name, version) == ("release", None)
            return SimpleNamespace(key=jwk)

    class Crypto:
        def __init__(self, key: object, who: object) -> None:
            assert who == "me"
            assert key

        def sign(self, kind: str, digest: bytes) -> SimpleNamespace:
            signature = signed(key, digest)
            if kind == "ES256":
                signature = b"".join(part.to_bytes(32, "big") for part in decode_dss_signature(signature))
            return SimpleNamespace(signature=signature)

    for part in ("azure", "azure.keyvault"):
        module(monkeypatch, part)
    module(monkeypatch, "azure.identity", DefaultAzureCredential=lambda: "me")
    module(monkeypatch, "azure.keyvault.keys", KeyClient=Keys)
    kinds = SimpleNamespace(es256="ES256", rs256="RS256")
    module(monkeypatch, "azure.keyvault.keys.crypto", CryptographyClient=Crypto, SignatureAlgorithm=kinds)
    return "azurekms://acme.vault.azure.net/release"


@pytest.mark.parametrize("key", [EC, RSA], ids=["ecdsa", "rsa"])
@pytest.mark.parametrize("vendor", [aws, gcp, azure])
def test_a_clouds_library_is_asked_as_its_documents_say(monkeypatch: pytest.MonkeyPatch, vendor: Any, key: Key) -> None:
    private = source.opening(vendor(monkeypatch, key), None, {})()
    assert private.public.der == spki(key, serialization.Encoding.DER)
    claim = attachment.payload("r.example/app", DIGEST)
    assert attachment.signed_by(private.public, attachment.sign(private, claim), claim)
    stated = bundle.statement(DIGEST)
    assert bundle.signed_by(private.public, bundle.sign(private, stated), stated)


def test_what_a_signer_signs_wrongly_is_used_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    text = aws(monkeypatch, EC)
    private = source.opening(text, None, {})()
    monkeypatch.setattr(sys.modules[__name__], "signed", lambda _, digest: EC.sign(digest, ec.ECDSA(hashes.SHA256())))
    with pytest.raises(InfrastructureError, match="does not hold under its own public key"):
        private.sign(b"x")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("awskms:///alias/x", "boto3"),
        ("gcpkms://projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1", "google-cloud-kms"),
        ("azurekms://acme.vault.azure.net/x", "azure-keyvault-keys azure-identity"),
    ],
)
def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, text: str, names: str) -> None:
    for name in ("boto3", "google.cloud.kms", "azure.identity"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingError, match=f"pip install {names}"):
        source.opening(text, None, {})


@pytest.mark.parametrize(
    "text",
    [
        "awskms://alias/x y",
        "gcpkms://projects/p/locations/l/keyRings/r/cryptoKeys/k",
        "azurekms://acme.vault.azure.net",
        "k8s://namespace",
        "k8s://a/b/c",
        "gitlab://x",
        "https://x/key",
        "env:NOT_SET",
        "hashivault://",
        "hashivault://a/../b",
        "pkcs11:token=x",
        "pkcs11:object=x",
        "pkcs11:object=x;colour=red?module-path=/x",
        "pkcs11:object=x?module-path=/x&pin-source=|/bin/cat",
    ],
)
def test_what_users_mistype_is_a_mistake_of_usage(text: str) -> None:
    assert source.is_remote(text)
    with pytest.raises(UsageError) as caught:
        source.opening(text, None, {"HOME": "/nonexistent"})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["release.key", "./a:b/release.key", "/keys/env", "keys/pkcs11", "C:release"])
def test_a_files_name_is_a_file(text: str) -> None:
    assert not source.is_remote(text)


def test_a_pin_on_the_command_line_is_refused_and_not_repeated() -> None:
    text = "pkcs11:token=t;object=k?module-path=/x.so&pin-value=271828"
    with pytest.raises(UsageError, match="pin-source=FILE") as caught:
        hsm.parse(text, {})
    assert "271828" not in str(caught.value)
    assert hsm.parse(text.replace("pin-value=271828", "pin-source=file:/pin"), {}).pin_source == Path("/pin")


def test_a_uri_says_which_key_in_rfc_7512s_words() -> None:
    uri = hsm.parse("pkcs11:token=My%20token;object=k;id=%01%FE;serial=12", {hsm.MODULE: "/lib/x.so"})
    assert uri.wanted == {"token": "My token", "object": "k", "serial": "12"}
    assert (uri.key_id, uri.module, uri.pin_source) == (b"\x01\xfe", Path("/lib/x.so"), None)


def test_a_key_in_the_environment_is_opened_by_its_password() -> None:
    made = keys.generate()
    environ = {"RELEASE": made.sealed(b"pw"), "COSIGN_PASSWORD": "pw"}
    assert source.opening("env:RELEASE", None, environ)().public == made.public
    with pytest.raises(BadKey, match="env:RELEASE"):
        source.opening("env:RELEASE", None, environ | {"COSIGN_PASSWORD": "other"})


def test_a_key_in_a_secret_brings_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    made = keys.generate()
    data = {"cosign.key": made.sealed(b"kept"), "cosign.password": "kept"}
    encoded = {name: base64.b64encode(text.encode()).decode() for name, text in data.items()}
    monkeypatch.setattr(source, "_secret", lambda namespace, name, _: {("ci", "release"): encoded}[namespace, name])
    assert source.opening("k8s://ci/release", None, {})().public == made.public
    encoded.pop("cosign.key")
    with pytest.raises(UsageError, match="holds no key"):
        source.opening("k8s://ci/release", None, {})


def test_what_the_library_prints_of_its_search_for_a_cluster_is_no_document(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("kubernetes.config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    with pytest.raises(InfrastructureError, match="no cluster answers"):
        source.opening("k8s://ci/release", None, {})()
    assert capsys.readouterr().out == ""


def test_a_key_that_stays_where_it_is_cannot_be_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CountersignError, match="cannot be taken out"):
        source.opening(aws(monkeypatch, EC), None, {})().sealed(b"pw")
