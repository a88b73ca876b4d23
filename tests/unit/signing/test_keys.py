"""Keys: cosign's are read, ours are cosign's, and what is not a key of ours says so in one line."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from countersign.keys import pair as keys
from countersign.keys import sealed
from countersign.keys.sealed import BadKey, WrongPassword

DATA = Path(__file__).parent / "data"
PEM, DER = serialization.Encoding.PEM, serialization.Encoding.DER
PKCS8, SPKI = serialization.PrivateFormat.PKCS8, serialization.PublicFormat.SubjectPublicKeyInfo
CLEAR = serialization.NoEncryption()

CURVES = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}
RSA_2048 = rsa.generate_private_key(65537, 2048)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def clear(key: Any) -> bytes:
    return bytes(key.private_bytes(PEM, PKCS8, CLEAR))


def public(key: Any) -> bytes:
    return bytes(key.public_key().public_bytes(PEM, SPKI))


def test_a_key_of_cosign_opens() -> None:
    key = keys.load_private(DATA / "cosign.key", b"pw")
    assert key.public == keys.load_public(DATA / "cosign.pub")
    assert key.public.kind == "ECDSA P-256"


def test_fingerprint_hint_and_pem_are_those_of_cosign() -> None:
    key = keys.load_public(DATA / "signer.pub")
    bundle = json.loads((DATA / "bundle.json").read_text())
    assert key.hint == bundle["verificationMaterial"]["publicKey"]["hint"]
    assert key.fingerprint == "sha256:" + base64.b64decode(key.hint).hex()
    assert key.pem == (DATA / "signer.pub").read_text()


def test_a_sealed_key_looks_like_cosigns(tmp_path: Path) -> None:
    def shape(text: str) -> Any:
        lines = text.strip().split("\n")
        box = json.loads(base64.b64decode("".join(lines[1:-1])))
        lengths = {key: len(base64.b64decode(box[part][key])) for part, key in (("kdf", "salt"), ("cipher", "nonce"))}
        return lines[0], lines[-1], {len(line) for line in lines[1:-2]}, list(box), box["kdf"]["params"], lengths

    assert shape(keys.generate().sealed(b"pw")) == shape((DATA / "cosign.key").read_text())


@pytest.mark.parametrize("password", [b"", b"PW"])
def test_a_wrong_password_does_not_open(password: bytes) -> None:
    with pytest.raises(WrongPassword, match="does not open"):
        keys.load_private(DATA / "cosign.key", password)


def test_no_password_does_not_open() -> None:
    with pytest.raises(WrongPassword, match="no password"):
        keys.load_private(DATA / "cosign.key", None)


def test_an_empty_password_is_a_password_and_no_two_files_are_alike(tmp_path: Path) -> None:
    key = keys.generate()
    first, second = key.sealed(b""), key.sealed(b"")
    assert first.split("\n")[3:-3] != second.split("\n")[3:-3]
    assert keys.load_private(write(tmp_path / "k.key", first.encode()), b"").public == key.public


def test_the_older_name_of_the_format_is_read(tmp_path: Path) -> None:
    older = (DATA / "cosign.key").read_text().replace("SIGSTORE", "COSIGN")
    assert keys.load_private(write(tmp_path / "k.key", older.encode()), b"pw").public.kind == "ECDSA P-256"


def test_windows_line_ends_are_read(tmp_path: Path) -> None:
    text = (DATA / "cosign.key").read_bytes().replace(b"\n", b"\r\n")
    assert keys.load_private(write(tmp_path / "k.key", text), b"pw").public.kind == "ECDSA P-256"


@pytest.mark.parametrize("name", CURVES)
def test_ecdsa_verifies_on_all_curves_and_signs_on_one(tmp_path: Path, name: str) -> None:
    key = ec.generate_private_key(CURVES[name])
    assert keys.load_public(write(tmp_path / "k.pub", public(key))).kind == f"ECDSA {name}"
    path = write(tmp_path / "k.key", clear(key))
    if name == "P-256":
        assert keys.load_private(path).public.kind == "ECDSA P-256"
    else:
        with pytest.raises(BadKey, match="does not sign here"):
            keys.load_private(path)


def test_bare_rsa_keys_are_read(tmp_path: Path) -> None:
    assert keys.load_private(write(tmp_path / "k.key", clear(RSA_2048))).public.kind == "RSA 2048"


def test_ed25519_verifies_and_does_not_sign(tmp_path: Path) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    loaded = keys.load_public(write(tmp_path / "k.pub", public(key)))
    assert loaded.kind == "Ed25519"
    assert loaded.verifies(key.sign(b"data"), b"data")
    assert not loaded.verifies(key.sign(b"data"), b"other")
    with pytest.raises(BadKey, match="does not sign here"):
        keys.load_private(write(tmp_path / "k.key", clear(key)))


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda: rsa.generate_private_key(65537, 1024), "RSA key of 1024 bits"),
        (lambda: ec.generate_private_key(ec.SECP256K1()), "ECDSA key on secp256k1"),
        (lambda: dsa.generate_private_key(1024), "of kind DSAPublicKey"),
    ],
)
def test_weak_and_foreign_keys_are_refused(tmp_path: Path, make: Any, found: str) -> None:
    with pytest.raises(BadKey, match=found):
        keys.load_public(write(tmp_path / "k.pub", public(make())))


SEALED = (DATA / "cosign.key").read_text()


def resealed(**change: Any) -> bytes:
    """The sealed key with parts of its JSON replaced."""
    box = json.loads(base64.b64decode("".join(SEALED.strip().split("\n")[1:-1])))
    return sealed.armour(json.dumps(box | change).encode(), "ENCRYPTED SIGSTORE PRIVATE KEY").encode()


SALT = base64.b64encode(b"s" * 32).decode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no private key"),
        (b"not a key", "no private key"),
        (b"\xff\xfe", "no private key"),
        ((DATA / "cosign.pub").read_bytes(), "no private key"),
        (RSA_2048.private_bytes(PEM, PKCS8, serialization.BestAvailableEncryption(b"pw")), "no private key"),
        (SEALED.replace("-----END", "----END").encode(), "has no end"),
        (SEALED.replace("\ney", "\n*y").encode(), "no base64"),
        (sealed.armour(b"{}", "ENCRYPTED SIGSTORE PRIVATE KEY").encode(), "cannot be read"),
        (sealed.armour(b"[" * 9999, "ENCRYPTED SIGSTORE PRIVATE KEY").encode(), "cannot be read"),
        (resealed(ciphertext="*"), "cannot be read"),
        (resealed(cipher={"name": "aes", "nonce": SALT}), "sealed with"),
        (resealed(cipher={"name": "nacl/secretbox", "nonce": SALT}), "sealed with"),
        (resealed(kdf={"name": "scrypt", "salt": SALT, "params": {"N": 1 << 30, "r": 8, "p": 1}}), "sealed with"),
        (resealed(kdf={"name": "scrypt", "salt": SALT, "params": {"N": 65536, "r": 8, "p": 999}}), "sealed with"),
        (b"x" * (65 << 10), "over 64 KiB"),
    ],
)
def test_what_is_no_private_key(tmp_path: Path, content: bytes, message: str) -> None:
    path = write(tmp_path / "k.key", content)
    with pytest.raises(BadKey, match=message) as caught:
        keys.load_private(path, b"pw")
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 2


def test_something_else_sealed_with_the_password(tmp_path: Path) -> None:
    path = write(tmp_path / "k.key", sealed.seal(b"no key", b"pw").encode())
    with pytest.raises(BadKey, match="no private key that can be read"):
        keys.load_private(path, b"pw")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no public key"),
        (SEALED.encode(), "a private key where a public key belongs"),
        ((DATA / "cosign.pub").read_bytes() * 2, "more than one PEM block"),
        ((DATA / "cosign.pub").read_bytes().replace(b"M", b"N"), "no public key"),
    ],
)
def test_what_is_no_public_key(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(BadKey, match=message):
        keys.load_public(write(tmp_path / "k.pub", content))


@pytest.mark.parametrize("name", ["missing", "folder"])
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(BadKey, match="cannot be read"):
        keys.load_public(tmp_path / name)


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP256R1()), RSA_2048], ids=["P-256", "RSA"])
def test_a_signature_holds_for_its_data_alone(key: Any) -> None:
    signer = keys.parse_private(clear(key), "here")
    signature = signer.sign(b"data")
    assert signer.public.verifies(signature, b"data")
    assert signer.public.verifies(signature, b"data", sha256=True)
    assert not signer.public.verifies(signature, b"other")
    assert not keys.generate().public.verifies(signature, b"data")


@pytest.mark.parametrize(("name", "used"), [("P-384", hashes.SHA384()), ("P-521", hashes.SHA512())])
def test_on_larger_curves_the_hash_is_the_formats(name: str, used: hashes.HashAlgorithm) -> None:
    key = ec.generate_private_key(CURVES[name])
    verifier = keys.parse_public(public(key), "here")
    by_curve, by_sha256 = key.sign(b"data", ec.ECDSA(used)), key.sign(b"data", ec.ECDSA(hashes.SHA256()))
    assert verifier.verifies(by_curve, b"data")
    assert verifier.verifies(by_sha256, b"data")
    assert verifier.verifies(by_sha256, b"data", sha256=True)
    assert not verifier.verifies(by_curve, b"data", sha256=True)


@given(st.binary(max_size=100))
def test_any_bytes_are_no_signature(signature: bytes) -> None:
    assert not keys.load_public(DATA / "cosign.pub").verifies(signature, b"data")


def test_a_private_key_does_not_show_itself() -> None:
    assert "private" not in repr(keys.generate()).lower().replace("privatekey(", "")
