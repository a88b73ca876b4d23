"""Signing as an identity: what is written, what the Sigstore may fail at, and that a token is never told."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from invoke.config import Config
from invoke.context import MockContext
from invoke.exceptions import Exit

from countersign.console.errors import InfrastructureError, UsageError
from countersign.oci import referrers
from countersign.oci.registry import Registry
from signing import attachment, certified, commands, identity, sign, stored
from signing.identity import LOGGED, ByIdentity
from tests.fake_registry import FakeRegistry, Reply
from tests.fake_sigstore import ISSUER, SUBJECT, FakeSigstore, sigstore, token
from tests.images import push_image


@pytest.fixture
def private() -> Iterator[FakeSigstore]:
    """A Sigstore in this process."""
    with sigstore() as found:
        yield found


def signer(private: FakeSigstore, folder: Path, rekor: int = 1) -> ByIdentity:
    config = identity.open_config(private.config(folder, rekor))
    file = folder / "token"
    file.write_text(token() + "\n")
    return ByIdentity(config, identity.token(lambda: config, file))


def test_both_formats_are_signed_with_one_certificate_each(
    private: FakeSigstore, fake: FakeRegistry, tmp_path: Path
) -> None:
    registry, by = Registry(), signer(private, tmp_path)
    assert by.about == {"identity": SUBJECT, "issuer": ISSUER}
    for number in range(3):
        target = push_image(registry, fake.name(), f"v{number}", f"{number}")
        assert sign.sign(registry, fake.name(), target, by).added == ["attachment", "bundle"]
    assert (private.certified, private.logged) == (2, ["hashedrekord", "dsse"] * 3)


def test_an_attachment_has_what_cosign_puts_beside_it(
    private: FakeSigstore, fake: FakeRegistry, tmp_path: Path
) -> None:
    registry = Registry()
    target = push_image(registry, fake.name(), "v1")
    sign.sign(registry, fake.name(), target, signer(private, tmp_path), ["attachment"])
    (one,) = stored.listed(registry, fake.name(), target.digest, "attachment")
    beside = one.entry.annotations
    assert beside.keys() == {attachment.SIGNATURE, certified.CERTIFICATE, certified.CHAIN, LOGGED}
    assert beside[certified.CHAIN] == private.ca.pem
    leaf = x509.load_pem_x509_certificate(beside[certified.CERTIFICATE].encode())
    assert certified.names(leaf) == [SUBJECT]
    logged = json.loads(beside[LOGGED])
    assert logged.keys() == {"SignedEntryTimestamp", "Payload"}
    assert logged["Payload"].keys() == {"body", "integratedTime", "logIndex", "logID"}
    entry = json.loads(base64.b64decode(logged["Payload"]["body"]))
    assert entry["spec"]["signature"]["content"] == one.signature
    assert entry["spec"]["data"]["hash"]["value"] == one.entry.digest.removeprefix("sha256:")


def test_a_second_time_adds_another(private: FakeSigstore, fake: FakeRegistry, tmp_path: Path) -> None:
    registry, by = Registry(), signer(private, tmp_path)
    target = push_image(registry, fake.name(), "v1")
    for _ in range(2):
        assert sign.sign(registry, fake.name(), target, by).added == ["attachment", "bundle"]
    assert len(referrers.listing(registry, fake.name(), target.digest)) == 2


def test_only_a_rekor_1_makes_attachments(private: FakeSigstore, tmp_path: Path) -> None:
    assert signer(private, tmp_path).attaches
    assert not signer(private, tmp_path, rekor=2).attaches


@pytest.mark.parametrize(
    ("path", "reply", "found"),
    [
        ("signingCert", Reply(500, b"{}"), "500 Server Error"),
        (
            "signingCert",
            Reply(401, b'{"code": 16, "message": "the token is of nobody"}'),
            "401 .*: the token is of nobody",
        ),
        ("signingCert", Reply(200, b"no JSON"), "signing: "),
        ("signingCert", Reply(200, b"{}"), "missing certificate chain"),
        ("entries", Reply(400, b'{"code": 400, "message": "the log is closed"}'), "the log is closed"),
        ("entries", Reply(201, b"{}"), "signing: "),
    ],
)
def test_a_sigstore_that_fails_is_one_line(
    private: FakeSigstore, tmp_path: Path, path: str, reply: Reply, found: str
) -> None:
    by = signer(private, tmp_path)
    private.server.faults.insert(0, lambda request: reply if path in request.path else None)
    with pytest.raises(InfrastructureError, match=found) as caught:
        by.attachment(b"payload")
    assert str(by.token) not in str(caught.value)
    assert str(by.token) not in repr(by)


def test_a_sigstore_that_is_down_is_one_line(tmp_path: Path) -> None:
    with sigstore() as gone:
        by = signer(gone, tmp_path)
    with pytest.raises(InfrastructureError, match="Connection refused"):
        by.attachment(b"payload")


def test_a_sigstore_that_hangs_is_left(private: FakeSigstore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by, held = signer(private, tmp_path), threading.Event()
    real = by._rekor_1_signer.sign_artifact
    monkeypatch.setattr(by._rekor_1_signer, "sign_artifact", lambda _: held.wait(30))
    monkeypatch.setattr(identity, "_SECONDS", 0.1)
    with pytest.raises(InfrastructureError, match="no answer in"):
        by.attachment(b"payload")
    held.set()
    monkeypatch.setattr(by._rekor_1_signer, "sign_artifact", real)
    monkeypatch.setattr(identity, "_SECONDS", 30)
    assert by.attachment(b"payload").payload == b"payload"


def test_a_bundle_of_no_time_is_not_written(
    private: FakeSigstore, fake: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry()
    target = push_image(registry, fake.name(), "v1")
    by = signer(private, tmp_path)
    real = by._signer.sign_dsse

    class Timeless:
        """What a log of Rekor v2 gives where the timestamp authority fails."""

        def __init__(self, statement: Any) -> None:
            self.made = json.loads(real(statement).to_json())

        def to_json(self) -> str:
            for entry in self.made["verificationMaterial"]["tlogEntries"]:
                entry["integratedTime"] = "0"
            return json.dumps(self.made)

    assert sign.sign(registry, fake.name(), target, by, ["bundle"]).added == ["bundle"]
    monkeypatch.setattr(by._signer, "sign_dsse", Timeless)
    with pytest.raises(InfrastructureError, match="no timestamp was had"):
        sign.sign(registry, fake.name(), target, by, ["bundle"])
    assert len(referrers.listing(registry, fake.name(), target.digest)) == 1


@pytest.mark.parametrize(
    "text",
    ["", "x", token(-60), token(aud="other"), token()[:-40], token(iss=None), "x" * 70_000],
    ids=["empty", "none", "expired", "another audience", "cut off", "nobody's", "large"],
)
def test_a_token_that_cannot_be_used_is_one_line_without_it(private: FakeSigstore, tmp_path: Path, text: str) -> None:
    config, file = identity.open_config(private.config(tmp_path)), tmp_path / "token"
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        identity.token(lambda: config, file)
    assert str(file) in str(caught.value)
    assert not text or text not in str(caught.value) or len(text) == 1


def test_a_token_may_come_from_ci(private: FakeSigstore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = identity.open_config(private.config(tmp_path))
    monkeypatch.setattr("sigstore.oidc.detect_credential", token)
    assert identity.token(lambda: config, None).identity == SUBJECT


def test_without_one_and_without_a_terminal_it_is_said_what_is_needed(
    private: FakeSigstore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = identity.open_config(private.config(tmp_path))
    monkeypatch.setattr("sigstore.oidc.detect_credential", lambda: None)
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(UsageError, match="a token from CI"):
        identity.token(lambda: config, None)


@pytest.mark.parametrize("text", ["", "x", "{}", "[]", '{"mediaType": "x"}', "\ud800"])
def test_a_trust_config_that_cannot_be_used(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config"
    file.write_text(text, errors="surrogatepass")
    with pytest.raises(UsageError, match="not a trust config that can be used"):
        identity.open_config(file)
    with pytest.raises(UsageError, match="cannot be read"):
        identity.open_config(tmp_path)


def test_the_task_signs_with_a_token_in_a_file(
    private: FakeSigstore, fake: FakeRegistry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    push_image(Registry(), fake.name(), "v1")
    (tmp_path / "token").write_text(token())
    overrides = {"state": str(tmp_path), "signing": {"trust_config": str(private.config(tmp_path))}}
    context = MockContext(config=Config(overrides=overrides))
    options: dict[str, Any] = {"image": [f"{fake.name()}:v1"], "identity": str(tmp_path / "token")}
    commands.sign(context, json=True, **options)
    out, err = capsys.readouterr()
    assert (json.loads(out)["identity"], json.loads(out)["issuer"]) == (SUBJECT, ISSUER)
    assert (tmp_path / "token").read_text() not in out + err
    private.config(tmp_path, rekor=2)
    with pytest.raises(Exit) as caught:
        commands.sign(context, format="attachment", **options)
    assert "no log that attachments can be in" in str(caught.value.message)
    assert caught.value.code == 2
