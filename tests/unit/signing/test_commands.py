"""The tasks: what a user types, what comes out on stdout, and one line with the right exit code if it is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from invoke.config import Config
from invoke.context import MockContext
from invoke.exceptions import Exit

from oci.registry import Registry
from signing import commands, keys
from tests.fake_registry import FakeRegistry
from tests.images import push_image, push_index

Run = Callable[..., Any]

KEY = keys.generate()
SEALED = KEY.sealed(b"pw")  # once, because a password's KDF takes its time


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MockContext:
    """A configuration with its own keys and state, and the password in the environment."""
    monkeypatch.setenv("COSIGN_PASSWORD", "pw")
    overrides = {"keys": str(tmp_path / "keys"), "state": str(tmp_path / "state")}
    return MockContext(config=Config(overrides=overrides))


@pytest.fixture
def pair(context: MockContext, tmp_path: Path) -> keys.PublicKey:
    """The default key pair, where the tasks look for it."""
    assert context
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "cosign.key").write_text(SEALED)
    (tmp_path / "keys" / "cosign.pub").write_text(KEY.public.pem)
    return KEY.public


def refused(capsys: pytest.CaptureFixture[str], code: int, run: Run, *args: Any, **options: Any) -> str:
    """Run a task that must end with this exit code; return its one line."""
    with pytest.raises(Exit) as caught:
        run(*args, **options)
    assert caught.value.code == code
    message = str(caught.value.message)
    assert message.startswith("error: ")
    assert "\n" not in message
    assert capsys.readouterr().out == ""
    return message


def document(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_keys_are_made_and_not_replaced(context: MockContext, capsys: pytest.CaptureFixture[str]) -> None:
    commands.keys(context, json=True)
    made = document(capsys)
    assert made["version"] == "countersign.keys/v1"
    assert made["fingerprint"] == keys.load_public(Path(made["publicKey"])).fingerprint
    assert keys.load_private(Path(made["privateKey"]), b"pw")
    assert "--force" in refused(capsys, 2, commands.keys, context)
    commands.keys(context, force=True, json=True)
    assert document(capsys)["fingerprint"] != made["fingerprint"]


def test_an_image_is_signed_by_digest_and_verified(
    context: MockContext, pair: keys.PublicKey, fake: FakeRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = Registry()
    amd = push_image(registry, fake.name())
    index = push_index(registry, fake.name(), "v1", {"linux/amd64": amd})
    image = f"{fake.name()}:v1"
    capsys.readouterr()
    commands.sign(context, image=[image], json=True)
    signed = document(capsys)
    assert (signed["version"], signed["key"]) == ("countersign.signed/v1", pair.fingerprint)
    (entry,) = signed["images"]
    assert (entry["image"], entry["digest"]) == (image, index.digest)
    assert [one["digest"] for one in entry["signed"]] == [index.digest, amd.digest]
    commands.verify(context, image=[image, f"{fake.name()}@{amd.digest}"], key=[], json=True)
    verified = document(capsys)
    assert [one["code"] for one in verified["images"]] == ["OK", "OK"]
    assert {one["key"] for one in verified["images"][0]["signatures"]} == {pair.fingerprint}


def test_a_tag_is_shown_with_its_digest_before_it_is_signed(
    context: MockContext, pair: keys.PublicKey, fake: FakeRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    target = push_image(Registry(), fake.name(), "v1")
    assert pair
    capsys.readouterr()
    commands.sign(context, image=[f"{fake.name()}:v1"])
    first, *_ = capsys.readouterr().err.split("\n")
    assert first == f"{fake.name()}:v1 is {target.digest}"


def test_the_password_may_lie_beside_the_key(
    context: MockContext, pair: keys.PublicKey, fake: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_image(Registry(), fake.name(), "v1")
    assert pair
    monkeypatch.delenv("COSIGN_PASSWORD")
    (tmp_path / "keys" / "cosign.password").write_text("pw\n")
    commands.sign(context, image=[f"{fake.name()}:v1"], format="bundle")
    assert fake.asked("PUT", "/manifests/")


def test_an_unsigned_image_ends_with_1_and_its_code(
    context: MockContext, pair: keys.PublicKey, fake: FakeRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    push_image(Registry(), fake.name(), "v1")
    assert pair
    assert "1 of 1" in refused(capsys, 1, commands.verify, context, image=[f"{fake.name()}:v1"], key=[])
    with pytest.raises(Exit):
        commands.verify(context, image=[f"{fake.name()}:v1"], key=[], json=True)
    assert [one["code"] for one in document(capsys)["images"]] == ["UNSIGNED"]


def test_one_bad_image_of_two_ends_with_1(
    context: MockContext, pair: keys.PublicKey, fake: FakeRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pair
    for tag in ("good", "bad"):
        push_image(Registry(), fake.name(), tag, tag)
    commands.sign(context, image=[f"{fake.name()}:good"])
    images = [f"{fake.name()}:good", f"{fake.name()}:bad"]
    assert "1 of 2" in refused(capsys, 1, commands.verify, context, image=images, key=[])


def test_the_tree_names_every_signature(
    context: MockContext, pair: keys.PublicKey, fake: FakeRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    target = push_image(Registry(), fake.name(), "v1")
    assert pair
    commands.sign(context, image=[f"{fake.name()}:v1"])
    capsys.readouterr()
    commands.tree(context, image=[f"{fake.name()}:v1"], json=True)
    (root,) = document(capsys)["images"]
    assert (root["digest"], [leaf["kind"] for leaf in root["leaves"]]) == (target.digest, ["attachment", "bundle"])
    commands.tree(context, image=[f"{fake.name()}:v1"])
    assert f"names {fake.name()}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image": []}, "no image"),
        ({"image": ["REGISTRY/App"]}, "no image reference"),
        ({"image": ["x"], "format": "pgp"}, "--format: got 'pgp'"),
        ({"image": ["x"], "format": ""}, "--format: got ''"),
        ({"image": ["x"], "key": "/nowhere/k.key"}, "/nowhere/k.key: the key cannot be read"),
        ({"image": ["x"], "password_file": "/nowhere/pw"}, "/nowhere/pw: the password cannot be read"),
    ],
)
def test_bad_input_is_one_line_and_2(
    context: MockContext,
    pair: keys.PublicKey,
    capsys: pytest.CaptureFixture[str],
    options: dict[str, Any],
    message: str,
) -> None:
    assert pair
    capsys.readouterr()
    assert message in refused(capsys, 2, commands.sign, context, **options)


def test_an_unknown_image_is_one_line_and_2(
    context: MockContext, pair: keys.PublicKey, fake: FakeRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pair
    image = f"{fake.name()}:nope"
    for run, more in ((commands.sign, {}), (commands.verify, {"key": []}), (commands.tree, {})):
        capsys.readouterr()
        assert f"{image}: no such image" in refused(capsys, 2, run, context, image=[image], **more)


def test_a_wrong_password_is_one_line_and_2_and_signs_nothing(
    context: MockContext,
    pair: keys.PublicKey,
    fake: FakeRegistry,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    push_image(Registry(), fake.name(), "v1")
    assert pair
    fake.requests.clear()
    monkeypatch.setenv("COSIGN_PASSWORD", "wrong")
    assert "does not open" in refused(capsys, 2, commands.sign, context, image=[f"{fake.name()}:v1"])
    assert not fake.asked("PUT", "") + fake.asked("POST", "")


def test_a_registry_that_is_down_is_one_line_and_4(
    context: MockContext, pair: keys.PublicKey, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pair
    capsys.readouterr()
    assert "Connection refused" in refused(capsys, 4, commands.tree, context, image=["127.0.0.1:1/x"])
