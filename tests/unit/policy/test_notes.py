"""What is valid and hardly meant is said; each with a twin that differs in one thing and is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from countersign.keys import pair as keys
from countersign.policy.commands import show_notes
from countersign.policy.load import load
from countersign.policy.model import Policy
from countersign.policy.notes import notes
from countersign.policy.problems import PolicyInvalid

Load = Callable[[str], Policy]
Write = Callable[[str], Path]

ROOT = "roots: {team: {publicKey: {files: [team.pub]}}}\n"
SCOPES = "scopes: {r.example: {anyOf: [team]}}"
DIGEST, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def scope(name: str) -> str:
    return f"{ROOT}scopes: {{'{name}': {{anyOf: [team]}}}}\n"


@pytest.mark.parametrize(
    ("never", "note", "good"),
    [
        ("registry.example:443/app", "without the usual port: registry.example/app", "registry.example:5000/app"),
        ("registry.example:443", "without the usual port: registry.example", "registry.example"),
        ("[2001:db8::1]:443/app", "without the usual port: [2001:db8::1]/app", "[2001:db8::1]:444/app"),
        ("Registry.example/app", "in lower case: registry.example/app", "registry.example/app"),
        ("LOCALHOST:5000", "in lower case: localhost:5000", "localhost:5000"),
        ("registry-1.docker.io/acme/app", "are named docker.io/acme/app", "docker.io/acme/app"),
        ("registry.hub.docker.com/library/x", "are named docker.io/library/x", "index.docker.io/library/x"),
        ("registry.example:99999/app", "no registry has port 99999", "registry.example:65535/app"),
        ("registry.example:0/app", "no registry has port 0", "registry.example:1/app"),
        (
            "registry.example:05000/app",
            "without zeros before them: registry.example:5000/app",
            "registry.example:50/app",
        ),
        ("a" * 64 + ".example/app", "so long a name", "a" * 63 + ".example/app"),
    ],
)
def test_a_scope_that_no_image_is_named_under(loaded: Load, never: str, note: str, good: str) -> None:
    [found] = notes(loaded(scope(never)))
    assert found.startswith(f"scopes.{never}: ")
    assert note in found
    assert notes(loaded(scope(good))) == []


@pytest.mark.parametrize(
    ("text", "note", "good"),
    [
        (
            "scopes: {r.example: {anyOf: [team]}, r.example/app: {anyOf: [team]}}",
            "scopes.r.example/app: r.example says the same",
            "scopes: {r.example: {anyOf: [team]}, r.example/app: reject}",
        ),
        (
            "scopes: {r.example: {anyOf: [team]}, r.example/a: reject, r.example/a/b/c: reject}",
            "scopes.r.example/a/b/c: r.example/a says the same",
            "scopes: {r.example: {anyOf: [team]}, r.example/a: reject, r.example/a/b/c: {anyOf: [team]}}",
        ),
        (
            f"{SCOPES}\npinned: [r.example/a@{DIGEST}]\nrevoked: {{digests: ['{DIGEST}']}}",
            "is revoked as well",
            f"{SCOPES}\npinned: [r.example/a@{DIGEST}]\nrevoked: {{digests: ['{OTHER}']}}",
        ),
        (
            f"{SCOPES}\npinned: [r.example:443/a@{DIGEST}]",
            "without the usual port",
            f"{SCOPES}\npinned: [r.example/a@{DIGEST}]",
        ),
        (
            f"{SCOPES}\npinned: [r.example/a@{DIGEST}, r.example/a@{DIGEST}]",
            "is a duplicate",
            f"{SCOPES}\npinned: [r.example/a@{DIGEST}, r.example/a@{OTHER}]",
        ),
        (
            f"{SCOPES}\nrevoked: {{keys: ['{DIGEST}']}}",
            "is the key of no root",
            "scopes: {r.example: {anyOf: [team]}}\nrevoked: {keys: []}",
        ),
        (
            "scopes: {r.example: {anyOf: [team]}}\nrevoked: {keys: [other.pub]}",
            "is the key of no root",
            "scopes: {r.example: {anyOf: [team]}}",
        ),
        (
            f"{SCOPES}\nrevoked: {{digests: ['{DIGEST}', '{DIGEST}']}}",
            "is a duplicate",
            f"{SCOPES}\nrevoked: {{digests: ['{DIGEST}', '{OTHER}']}}",
        ),
    ],
)
def test_a_rule_without_an_effect(loaded: Load, text: str, note: str, good: str) -> None:
    [found] = notes(loaded(ROOT + text))
    assert note in found
    assert notes(loaded(ROOT + good)) == []


def test_a_duplicate_key_in_a_root(loaded: Load) -> None:
    [found] = notes(loaded(scope("r.example").replace("[team.pub]", "[team.pub, team.pub]")))
    assert "is a duplicate" in found
    assert notes(loaded(scope("r.example").replace("[team.pub]", "[team.pub, other.pub]"))) == []


def test_a_set_up_warns_of_the_same(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    show_notes(write(scope("registry.example:99999/app")))
    assert "no registry has port 99999" in capsys.readouterr().err
    show_notes(write(scope("registry.example/app")))
    assert capsys.readouterr().err == ""


def private(form: PrivateFormat) -> str:
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, form, NoEncryption()).decode()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (private(PrivateFormat.PKCS8), "a private key"),
        (private(PrivateFormat.TraditionalOpenSSL), "a private key"),
        (private(PrivateFormat.OpenSSH), "a private key"),
        ("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nc2VjcmV0\n-----END", "a private key"),
        ("-----BEGIN ENCRYPTED COSIGN PRIVATE KEY-----\nc2VjcmV0\n-----END", "a private key"),
        ("-----BEGIN CERTIFICATE-----\nc2VjcmV0\n-----END CERTIFICATE-----\n", "a certificate"),
        ("-----BEGIN PGP PUBLIC KEY BLOCK-----\nc2VjcmV0\n", "a PGP block"),
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 me\n", "a key in OpenSSH's format"),
    ],
)
def test_another_thing_where_a_public_key_belongs_is_called_what_it_is(
    write: Write, tmp_path: Path, content: str, what: str
) -> None:
    path = write(scope("r.example"))
    load(path)
    (tmp_path / "team.pub").write_text(content)
    with pytest.raises(PolicyInvalid) as caught:
        load(path)
    assert f"{what} where a public key belongs" in str(caught.value)
    secret = content.splitlines()[min(1, len(content.splitlines()) - 1)]
    assert secret not in str(caught.value)
    (tmp_path / "team.pub").write_text(keys.generate().public.pem)
    load(path)
