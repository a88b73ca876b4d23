"""Wherever a key is kept, what it signs verifies the same; what is wrong with it is one line, and nothing is pushed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from invoke.context import MockContext
from invoke.exceptions import Exit

from countersign.keys import pair as keys
from countersign.keys import source
from countersign.oci.registry import Registry
from signing import commands
from tests.custody.conftest import PIN, ROOT_TOKEN, Hsm, Vault
from tests.fake_registry import FakeRegistry
from tests.images import push_image, push_index


@pytest.fixture
def pin(tmp_path: Path) -> Path:
    (tmp_path / "pin").write_text(f"{PIN}\n")
    return tmp_path / "pin"


@pytest.fixture
def place(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pin: Path, kind: str
) -> tuple[str, str]:
    """A place that keeps keys, by the test's ``kind``, as two URIs: of an ECDSA key, of an RSA key."""
    if kind == "file":
        (tmp_path / "a.key").write_text(keys.generate().sealed(b"pw"))
        monkeypatch.setenv("COSIGN_PASSWORD", "pw")
        return str(tmp_path / "a.key"), str(tmp_path / "a.key")
    if kind == "env":
        monkeypatch.setenv("RELEASE_KEY", keys.generate().sealed(b"pw"))
        monkeypatch.setenv("COSIGN_PASSWORD", "pw")
        return "env:RELEASE_KEY", "env://RELEASE_KEY"
    if kind == "pkcs11":
        hsm: Hsm = request.getfixturevalue("hsm")
        return hsm.uri("ec", pin), hsm.uri("rsa", pin)
    vault: Vault = request.getfixturevalue("vault")
    prefix = "BAO" if kind == "openbao" else "VAULT"
    monkeypatch.setenv(f"{prefix}_ADDR", vault.address)
    monkeypatch.setenv(f"{prefix}_TOKEN", ROOT_TOKEN)
    return f"{kind}://ec", f"{kind}://rsa"


def signed(context: MockContext, capsys: pytest.CaptureFixture[str], image: str, key: str) -> Any:
    commands.sign(context, [image], key=key, json=True)
    return json.loads(capsys.readouterr().out)


def refused(context: MockContext, fake: FakeRegistry, key: str, code: int) -> str:
    """Sign with a key that cannot be used: one line, the exit code, and a registry that nothing was pushed to."""
    push_image(Registry(), fake.name(), "v1")
    before = dict(fake.manifests), dict(fake.blobs)
    with pytest.raises(Exit) as caught:
        commands.sign(context, [f"{fake.name()}:v1"], key=key)
    message = str(caught.value.message)
    assert "\n" not in message
    assert caught.value.code == code, message
    assert (fake.manifests, fake.blobs) == before
    return message


def test_what_is_wrong_with_a_token(
    hsm: Hsm, fake: FakeRegistry, context: MockContext, pin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("999999")
    assert "the PIN is " in refused(context, fake, hsm.uri("ec", wrong), 2)  # another, where this process has a session
    assert "0 tokens" in refused(context, fake, hsm.uri("ec", pin, "another"), 2)
    assert "0 private keys" in refused(context, fake, hsm.uri("another", pin), 2)
    elsewhere = Hsm(tmp_path / "missing.so")
    assert "no such PKCS #11 library" in refused(context, fake, elsewhere.uri("ec", pin), 3)
    (tmp_path / "text.so").write_text("no library")
    assert "cannot be used as a PKCS #11 library" in refused(context, fake, Hsm(tmp_path / "text.so").uri("ec", pin), 4)
    with_pin = f"pkcs11:token=custody;object=ec?module-path={hsm.module}&pin-value={PIN}"
    message = refused(context, fake, with_pin, 2)
    assert "pin-source" in message
    assert PIN not in message
    monkeypatch.setenv("COSIGN_PKCS11_PIN", PIN)
    bare = f"pkcs11:token=custody;object=ec?module-path={hsm.module}"
    commands.sign(context, [f"{fake.name()}:v1"], key=bare)
    assert "the PIN is another" in refused(context, fake, hsm.uri("ec", wrong), 2)


@pytest.mark.parametrize("kind", ["file", "env", "pkcs11", "hashivault", "openbao"])
def test_it_verifies_the_same_wherever_the_key_is_kept(
    netloc: str,
    context: MockContext,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    place: tuple[str, str],
    kind: str,
) -> None:
    for number, key in enumerate(place):
        registry, name = Registry(), f"{netloc}/custody/{kind}{number}"
        push_index(registry, name, "v1", {"linux/amd64": push_image(registry, name, "", kind)})
        document = signed(context, capsys, f"{name}:v1", key)
        assert [one["added"] for one in document["images"][0]["signed"]] == [["attachment", "bundle"]] * 2
        commands.public_key(context, key=key)
        public = tmp_path / f"key{number}.pub"
        public.write_text(capsys.readouterr().out)
        assert keys.load_public(public).fingerprint == document["key"]
        again = signed(context, capsys, f"{name}:v1", key)
        assert [one["present"] for one in again["images"][0]["signed"]] == [["attachment", "bundle"]] * 2
        commands.verify(context, [f"{name}:v1"], [str(public)], json=True)
        verdict = json.loads(capsys.readouterr().out)["images"][0]
        assert (verdict["allow"], verdict["code"]) == (True, "OK")
        (tmp_path / "other.pub").write_text(keys.generate().public.pem)
        with pytest.raises(Exit):
            commands.verify(context, [f"{name}:v1"], [str(tmp_path / "other.pub")], json=True)
        assert json.loads(capsys.readouterr().out)["images"][0]["code"] == "BAD_SIGNATURE"


def test_a_locked_token_says_so(
    hsm: Hsm, fake: FakeRegistry, context: MockContext, pin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SoftHSM never locks: the token's answer is given for it."""
    import pkcs11

    def locked(*_: object, **__: object) -> None:
        raise pkcs11.exceptions.PinLocked

    token = type("Locked", (), {"label": "locked", "serial": b"1", "open": locked})()
    monkeypatch.setattr("countersign.keys.hsm._token", lambda *_: token)
    assert "PIN is locked" in refused(context, fake, hsm.uri("ec", pin), 4)


def test_what_is_wrong_with_a_vault(
    vault: Vault, fake: FakeRegistry, context: MockContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("VAULT_ADDR", "VAULT_TOKEN", "BAO_ADDR", "BAO_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "set BAO_ADDR" in refused(context, fake, "openbao://ec", 2)
    monkeypatch.setenv("BAO_ADDR", vault.address)
    assert "there is no token" in refused(context, fake, "openbao://ec", 2)
    monkeypatch.setenv("BAO_TOKEN", "wrong")
    assert "may not use" in refused(context, fake, "openbao://ec", 2)
    monkeypatch.setenv("BAO_TOKEN", ROOT_TOKEN)
    assert "no such key" in refused(context, fake, "openbao://missing", 2)
    assert "is not a key's name" in refused(context, fake, "openbao://../sys", 2)
    monkeypatch.setenv("BAO_ADDR", "http://127.0.0.1:9")
    assert "does not answer" in refused(context, fake, "openbao://ec", 4)


def test_a_sealed_vault_says_so(
    fake: FakeRegistry, context: MockContext, monkeypatch: pytest.MonkeyPatch, vault: Vault
) -> None:
    """Sealing a dev server is for good, so its answer comes from a server that gives what a sealed one gives."""
    from tests.fake_registry import Reply, serving

    assert vault
    with serving() as sealed:
        sealed.faults.append(
            lambda _: Reply(503, b'{"errors":["Vault is sealed"]}', {"Content-Type": "application/json"})
        )
        monkeypatch.setenv("VAULT_ADDR", f"http://{sealed.netloc}")
        monkeypatch.setenv("VAULT_TOKEN", ROOT_TOKEN)
        assert "it is sealed" in refused(context, fake, "hashivault://ec", 4)


def test_after_a_rotation_in_the_vault_the_newest_version_signs(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAULT_ADDR", vault.address)
    monkeypatch.setenv("VAULT_TOKEN", ROOT_TOKEN)
    client: Any = vault.client()
    client.secrets.transit.create_key("turns", key_type="ecdsa-p256")
    import os

    before = source.opening("hashivault://turns", None, os.environ)()
    client.secrets.transit.rotate_key("turns")
    after = source.opening("hashivault://turns", None, os.environ)()
    assert before.public != after.public
    assert before.public.verifies(before.sign(b"x"), b"x")
    assert after.public.verifies(after.sign(b"x"), b"x")
