"""Revoking amends policy.yaml, whole and valid, with fingerprints that need no file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from invoke.config import Config
from invoke.context import MockContext
from invoke.exceptions import Exit

from countersign.keys import pair as keys
from countersign.oci.registry import Registry
from countersign.policy.load import load
from signing.revoke_tasks import revoke
from tests.fake_registry import FakeRegistry
from tests.images import push_image, push_index

KEY = keys.generate()


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    (tmp_path / "team.pub").write_text(KEY.public.pem)
    text = "apiVersion: countersign/v1  # ours\ndefault: reject\nroots: {team: {publicKey: {files: [team.pub]}}}\n"
    text += "scopes: {r.example/app: {anyOf: [team]}}\n"
    (tmp_path / "policy.yaml").write_text(text)
    return tmp_path / "policy.yaml"


@pytest.fixture
def context(policy: Path, tmp_path: Path) -> MockContext:
    return MockContext(config=Config(overrides={"policy": str(policy), "state": str(tmp_path / "state")}))


def test_a_key_and_an_image_with_its_platforms(
    context: MockContext, policy: Path, fake: FakeRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    registry, name = Registry(), fake.name()
    platforms = {f"linux/{one}": push_image(registry, name, "", one) for one in ("amd64", "arm64")}
    index = push_index(registry, name, "v1", platforms)
    revoke(context, [str(policy.parent / "team.pub")], [], [f"{name}:v1"], json=True)
    assert json.loads(capsys.readouterr().out)["changed"] is True
    found = load(policy)
    assert found.revoked_keys == (KEY.public.fingerprint,)
    assert set(found.revoked_digests) == {index.digest, *(one.digest for one in platforms.values())}
    assert "# ours" in policy.read_text()
    revoke(context, [KEY.public.fingerprint], [], [], json=True)
    assert json.loads(capsys.readouterr().out)["changed"] is False


def test_a_plan_shows_the_difference_and_changes_nothing(
    context: MockContext, policy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = policy.read_text()
    revoke(context, [KEY.public.fingerprint], [], [], plan=True)
    assert "+revoked: {keys: [sha256:" in capsys.readouterr().err
    assert policy.read_text() == before
    assert sorted(path.name for path in policy.parent.iterdir()) == ["policy.yaml", "team.pub"]
    revoke(context, [KEY.public.fingerprint], [], [])
    assert policy.read_text() != before


@pytest.mark.parametrize(
    ("key", "certificate", "digest"),
    [
        *(([], [], []), (["missing.pub"], [], []), ([], ["policy.yaml"], []), ([], [], ["UPPER/case:x:y"])),
        *((["sha256:abc"], [], []), ([], ["sha256:" + "A" * 64], []), ([], [], ["sha256:abc"])),
    ],
)
def test_what_users_mistype(
    context: MockContext,
    policy: Path,
    monkeypatch: pytest.MonkeyPatch,
    key: list[str],
    certificate: list[str],
    digest: list[str],
) -> None:
    monkeypatch.chdir(policy.parent)
    before = policy.read_text()
    with pytest.raises(Exit) as caught:
        revoke(context, key, certificate, digest)
    assert caught.value.code == 2
    assert policy.read_text() == before
