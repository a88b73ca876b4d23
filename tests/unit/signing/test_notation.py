"""Signatures in the format notation: who may sign, what is written, and that a second time adds nothing."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from invoke.config import Config
from invoke.context import MockContext
from invoke.exceptions import Exit

from countersign.keys.sealed import BadKey
from countersign.oci.registry import Registry
from lab.trials import notaries
from lab.trials.notaries import NotarySigner
from signing import chain, commands, notary, notation, sign, stored
from signing.chain import BadChain
from signing.notary import Notary, Options
from tests.fake_registry import FakeRegistry
from tests.images import push_image, push_index

OURS = notaries.make()
SIGNER = OURS.issue()
HOUR = dt.timedelta(hours=1)
PLAIN = Options()
both = pytest.mark.parametrize("api", [True, False], ids=["api", "fallback"])


def by(signer: NotarySigner, folder: Path, options: Options = PLAIN) -> Notary:
    path = signer.write(folder, "release")
    crt = path.with_suffix(".crt")
    return notary.by_key(path.read_bytes(), "release.key", chain.load(crt), crt, options)


def test_what_is_written_is_what_the_specification_says(fake: FakeRegistry, tmp_path: Path) -> None:
    registry = Registry()
    target = push_image(registry, fake.name(), "v1")
    made = by(SIGNER, tmp_path, Options(expiry=HOUR)).make(target)
    document = json.loads(made)
    assert set(document) == {"payload", "protected", "header", "signature"}
    found = notation.parse(made)
    assert json.loads(found.payload) == {
        "targetArtifact": {"mediaType": target.media_type, "digest": target.digest, "size": target.size}
    }
    assert found.protected["alg"] == "ES256"
    assert found.protected["crit"] == ["io.cncf.notary.signingScheme", "io.cncf.notary.expiry"]
    assert found.protected["io.cncf.notary.signingScheme"] == "notary.x509"
    assert found.expiry == found.signing_time + HOUR
    assert found.chain == chain.as_der(SIGNER.chain)
    manifest = json.loads(notation.manifest(made, target, found.chain))
    assert "artifactType" not in manifest
    assert manifest["config"]["mediaType"] == "application/vnd.cncf.notary.signature"
    assert len(json.loads(manifest["annotations"]["io.cncf.notary.x509chain.thumbprint#S256"])) == len(found.chain)


@pytest.mark.parametrize(
    ("key", "spec"),
    [
        (ec.generate_private_key(ec.SECP256R1()), "EC-256"),
        (ec.generate_private_key(ec.SECP384R1()), "EC-384"),
        (ec.generate_private_key(ec.SECP521R1()), "EC-521"),
        (rsa.generate_private_key(65537, 2048), "RSA-2048"),
        (rsa.generate_private_key(65537, 3072), "RSA-3072"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_kind_of_key_signs_as_its_algorithm_says(
    fake: FakeRegistry, tmp_path: Path, key: chain.Private, spec: str
) -> None:
    target = push_image(Registry(), fake.name(), "v1")
    found = notary.checked(by(OURS.issue(key=key), tmp_path).make(target), target, "test")
    assert found.protected["alg"] == notation.ALGORITHMS[spec]


def without_root(signer: NotarySigner) -> NotarySigner:
    return NotarySigner(signer.key, signer.chain[:1])


@pytest.mark.parametrize(
    ("signer", "found", "expected"),
    [
        (without_root(SIGNER), "the chain ends with", "the root at its end"),
        (NotarySigner(SIGNER.key, SIGNER.chain[::-1]), "is the certificate of an authority", "own certificate first"),
        (NotarySigner(SIGNER.key, (SIGNER.chain[0], notaries.make().certificate)), "is not issued by", "issuer after"),
        (NotarySigner(SIGNER.key, OURS.issue().chain), "is of another key", "release.key"),
        (NotarySigner(SIGNER.key, (*SIGNER.chain, *SIGNER.chain * 4)), "10 certificates", "1 to 8"),
        (OURS.issue(valid=(-2 * HOUR, -HOUR)), "is valid from", "valid now"),
        (OURS.issue(usage=ExtendedKeyUsageOID.SERVER_AUTH), "is for servers", "signing code"),
    ],
    ids=["ends nowhere", "root first", "another root", "another key", "too long", "expired", "for servers"],
)
def test_a_chain_that_is_none(tmp_path: Path, signer: NotarySigner, found: str, expected: str) -> None:
    with pytest.raises(BadChain) as caught:
        by(signer, tmp_path)
    assert found in caught.value.found
    assert expected in caught.value.expected


@pytest.mark.parametrize(
    "key",
    [
        ed25519.Ed25519PrivateKey.generate(),
        ec.generate_private_key(ec.SECP256K1()),
        rsa.generate_private_key(65537, 1024),
    ],
)
def test_a_key_that_the_notary_project_does_not_know(tmp_path: Path, key: Any) -> None:
    path = NotarySigner(key, SIGNER.chain).write(tmp_path, "odd")
    with pytest.raises(BadKey):
        notary.by_key(path.read_bytes(), "odd.key", SIGNER.chain, path, Options())


@both
def test_a_second_time_adds_nothing(fake: FakeRegistry, tmp_path: Path, api: bool) -> None:
    fake.referrers_api = api
    registry, name = Registry(), fake.name()
    target = push_image(registry, name, "v1")

    def signed(signer: Notary) -> tuple[list[str], list[str]]:
        result = sign.sign(registry, name, target, None, ["notation"], sign.prepare(registry, name, target, signer))
        return list(result.added), list(result.present)

    assert signed(by(SIGNER, tmp_path)) == (["notation"], [])
    assert signed(by(SIGNER, tmp_path)) == ([], ["notation"])
    # Another signer's, one that expires, and one that has little of its life left, are others.
    assert signed(by(OURS.issue("dev"), tmp_path)) == (["notation"], [])
    assert signed(by(SIGNER, tmp_path, Options(expiry=HOUR))) == (["notation"], [])
    assert signed(by(SIGNER, tmp_path, Options(expiry=HOUR))) == ([], ["notation"])
    now = dt.datetime.now(dt.timezone.utc)
    old = OURS.issue("old")
    stored.add_envelope(registry, name, target, old.envelope(target, at=now - HOUR, until=now + HOUR / 2))
    assert signed(by(old, tmp_path, Options(expiry=HOUR))) == (["notation"], [])
    assert len(stored.listed(registry, name, target.digest, "notation")) == 5


def test_a_signature_that_does_not_hold_is_not_taken_for_ours(fake: FakeRegistry, tmp_path: Path) -> None:
    registry, name = Registry(), fake.name()
    target = push_image(registry, name, "v1")
    document = json.loads(SIGNER.envelope(target))
    stored.add_envelope(registry, name, target, json.dumps({**document, "signature": "AAAA"}).encode())
    assert sign.prepare(registry, name, target, by(SIGNER, tmp_path)) is not None
    stored.add_envelope(registry, name, target, json.dumps(document).encode())
    assert sign.prepare(registry, name, target, by(SIGNER, tmp_path)) is None


Run = Callable[..., Any]


def context_of(tmp_path: Path, **group: str) -> MockContext:
    overrides = {"keys": str(tmp_path / "keys"), "state": str(tmp_path / "state"), "notation": group}
    return MockContext(config=Config(overrides=overrides))


def refused(code: int, run: Run, *args: Any, **options: Any) -> str:
    with pytest.raises(Exit) as caught:
        run(*args, **options)
    assert caught.value.code == code
    message = str(caught.value.message)
    assert "\n" not in message
    return message


def test_the_task_signs_index_and_platforms(
    fake: FakeRegistry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry, name = Registry(), fake.name()
    target = push_index(registry, name, "v1", {"linux/amd64": push_image(registry, name, "amd64")})
    key = SIGNER.write(tmp_path, "release")
    for outcome in ("added", "present"):
        commands.sign(context_of(tmp_path), [f"{name}:v1"], key=str(key), format="notation", json=True)
        document = json.loads(capsys.readouterr().out)
        assert "CN=release" in document["signer"]
        assert [one[outcome] for one in document["images"][0]["signed"]] == [["notation"]] * 2
    commands.sign(context_of(tmp_path), [f"{name}:v1"], key=str(key), format="notation,bundle", json=True)
    first = json.loads(capsys.readouterr().out)["images"][0]["signed"][0]
    assert (first["added"], first["present"]) == (["bundle"], ["notation"])
    assert len(stored.listed(registry, name, target.digest, "notation")) == 1
    commands.tree(context_of(tmp_path), [f"{name}:v1"])
    assert "signature by CN=release,O=Acme,ST=Uusimaa,C=FI" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ({"expiry": "forever"}, "a time such as 30d"),
        ({"expiry": "0d"}, "a time such as 30d"),
        ({"plugin": "hsm"}, "notation.plugin_key"),
        ({"plugin_key": "1"}, "without notation.plugin"),
        ({"plugin": "../hsm", "plugin_key": "1"}, "a plugin's name"),
        ({"plugin_timeout": "0"}, "a number of seconds"),
        ({"plugin_config": "x"}, "NAME=VALUE"),
    ],
)
def test_what_is_mistyped_is_one_line_and_nothing_is_pushed(
    fake: FakeRegistry, tmp_path: Path, group: dict[str, str], message: str
) -> None:
    name = fake.name()
    target = push_image(Registry(), name, "v1")
    key = SIGNER.write(tmp_path, "release")
    assert message in refused(
        2, commands.sign, context_of(tmp_path, **group), [f"{name}:v1"], key=str(key), format="notation"
    )
    assert stored.listed(Registry(), name, target.digest, "notation") == []


def test_a_key_without_certificates_is_told_what_it_lacks(fake: FakeRegistry, tmp_path: Path) -> None:
    push_image(Registry(), fake.name(), "v1")
    key = SIGNER.write(tmp_path, "release")
    key.with_suffix(".crt").rename(tmp_path / "elsewhere.pem")
    sign_it = (commands.sign, context_of(tmp_path), [f"{fake.name()}:v1"])
    assert "--certificate" in refused(2, *sign_it, key=str(key), format="notation")
    other = str(tmp_path / "elsewhere.pem")
    assert "certificates of its own" in refused(2, *sign_it, identity="token", format="notation")
    commands.sign(context_of(tmp_path), [f"{fake.name()}:v1"], key=str(key), certificate=other, format="notation")
