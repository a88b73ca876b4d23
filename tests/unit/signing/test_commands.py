"""The tasks: what a user types, what comes out on stdout, and one line with the right exit code if it is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from invoke.config import Config
from invoke.context import MockContext
from invoke.exceptions import Exit

from countersign.console.errors import MissingError
from countersign.keys import pair as keys
from countersign.oci.registry import Registry
from signing import commands, verify
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


def test_an_image_is_signed_by_digest(
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


class Gate:
    """Stands for the gate's program, which is tried in tests/interop; it allows images whose name ends so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[Sequence[str]] = []
        monkeypatch.setattr(verify, "program", lambda _: Path("/gate"))
        monkeypatch.setattr(verify, "verify", self.decide)

    def decide(self, program: Path, image: str, going_by: Sequence[str], access: object) -> dict[str, Any]:
        assert (program, bool(access)) == (Path("/gate"), True)
        self.calls.append(going_by)
        allow = image.endswith("good")
        step = {"name": "judge", "outcome": "x", "ok": allow, "ms": 1.0}
        code = "OK" if allow else "UNSIGNED"
        return {"image": image, "allow": allow, "code": code, "message": f"{code}: {image}", "steps": [step]}


@pytest.mark.usefixtures("pair")
def test_verify_shows_the_gates_verdicts_and_ends_with_1_if_one_refuses(
    context: MockContext, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    commands.verify(context, image=["x/good", "y/good"], key=[], json=True)
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert document["version"] == "countersign.verified/v2"
    assert [(one["image"], one["code"]) for one in document["images"]] == [("x/good", "OK"), ("y/good", "OK")]
    assert "✓ judge 1.00 ms" in err
    assert "OK: y/good" in err
    assert "1 of 2" in refused(capsys, 1, commands.verify, context, image=["x/good", "x/bad"], key=[])
    with pytest.raises(Exit):
        commands.verify(context, image=["x/bad"], key=[], json=True)
    assert [one["code"] for one in json.loads(capsys.readouterr().out)["images"]] == ["UNSIGNED"]
    assert gate.calls[0] == ["--key", str(Path(context.config.keys) / "cosign.pub")]


def test_verify_goes_by_keys_or_by_a_policy(
    context: MockContext, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(monkeypatch)
    commands.verify(context, image=["x/good"], key=["a.pub", "b.pub"])
    commands.verify(context, image=["x/good"], key=[], policy="p.json")
    assert gate.calls == [["--key", "a.pub", "--key", "b.pub"], ["--policy", "p.json"]]
    assert "got both" in refused(capsys, 2, commands.verify, context, image=["x/good"], key=["a.pub"], policy="p.json")
    assert "no image" in refused(capsys, 2, commands.verify, context, image=[], key=[])


@pytest.mark.usefixtures("pair")
def test_without_the_gates_program_verify_ends_with_3_and_says_what_builds_it(
    context: MockContext, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str, settings: object) -> Path:
        raise MissingError(f"no Go for {name}")

    monkeypatch.setattr(verify, "tool", missing)
    message = refused(capsys, 3, commands.verify, context, image=["x/good"], key=[])
    assert "./inv tools.install --name countersign-gate" in message


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
        ({"image": ["REGISTRY/App"]}, "not an image reference"),
        ({"image": ["x"], "format": "pgp"}, "--format: got 'pgp'"),
        ({"image": ["x"], "format": ""}, "--format: got ''"),
        ({"image": ["x"], "key": "/nowhere/k.key"}, "/nowhere/k.key: the key cannot be read"),
        ({"image": ["x"], "identity": True, "key": "k"}, "--identity, --key: got both"),
        ({"image": ["x"], "certificate": "/nowhere/pem"}, "/nowhere/pem: the certificate cannot be read"),
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


def test_a_password_file_that_cannot_be_read_is_one_line_and_2(
    context: MockContext, pair: keys.PublicKey, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pair
    context.config.signing = {"password_file": "/nowhere/pw"}
    assert "/nowhere/pw: the password cannot be read" in refused(capsys, 2, commands.sign, context, image=["x"])


def test_an_unknown_image_is_one_line_and_2(
    context: MockContext, pair: keys.PublicKey, fake: FakeRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pair
    image = f"{fake.name()}:nope"
    for run in (commands.sign, commands.tree):
        capsys.readouterr()
        assert f"{image}: no such image" in refused(capsys, 2, run, context, image=[image])


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
