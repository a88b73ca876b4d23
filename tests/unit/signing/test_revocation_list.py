"""A list of what is trusted no more is made, amended and signed; a policy that includes it reads it."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from pathlib import Path

import pytest
from invoke.config import Config
from invoke.context import MockContext
from invoke.exceptions import Exit

from countersign.keys import pair as keys
from countersign.policy.load import load
from signing.revoke_tasks import revocation_list

SIGNER, OTHER, STOLEN = (keys.generate() for _ in range(3))
DIGEST = "sha256:" + "d" * 64


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COSIGN_PASSWORD", "x")
    for name, key in (("security", SIGNER), ("other", OTHER), ("stolen", STOLEN)):
        (tmp_path / f"{name}.key").write_text(key.sealed(b"x"))
        (tmp_path / f"{name}.pub").write_text(key.public.pem)
    text = "apiVersion: countersign/v1\ndefault: reject\nroots: {team: {publicKey: {files: [stolen.pub]}}}\n"
    text += "scopes: {r.example/app: {anyOf: [team]}}\nrevoked: {lists: [{file: acme.json, keys: [security.pub]}]}\n"
    (tmp_path / "policy.yaml").write_text(text)
    return tmp_path


@pytest.fixture
def context(tmp_path: Path) -> MockContext:
    return MockContext(config=Config(overrides={"state": str(tmp_path / "state")}))


def _add(context: MockContext, folder: Path, *, by: str = "security", plan: bool = False, **what: list[str]) -> None:
    key, certificate, digest = (what.get(each, []) for each in ("key", "certificate", "digest"))
    path, signer = str(folder / "acme.json"), str(folder / f"{by}.key")
    revocation_list(context, key, certificate, digest, file=path, signer=signer, plan=plan)


def test_a_list_is_made_and_grows_by_one(context: MockContext, folder: Path) -> None:
    _add(context, folder, key=[str(folder / "stolen.pub")])
    first = load(folder / "policy.yaml")
    assert [(one.name, one.serial) for one in first.lists] == [("acme", 1)]
    assert first.revoked_keys == (STOLEN.public.fingerprint,)
    _add(context, folder, digest=[DIGEST, DIGEST])
    second = load(folder / "policy.yaml")
    assert (second.lists[0].serial, second.revoked_digests) == (2, (DIGEST,))
    assert second.revoked_keys == first.revoked_keys
    content, signature = (folder / "acme.json").read_bytes(), (folder / "acme.json.sig").read_text()
    assert SIGNER.public.verifies(b64decode(signature), content)
    assert not OTHER.public.verifies(b64decode(signature), content)


def test_what_it_has_changes_nothing(context: MockContext, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _add(context, folder, digest=[DIGEST])
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    _add(context, folder, digest=[DIGEST])
    _add(context, folder)
    _add(context, folder, digest=[DIGEST.replace("d", "e")], plan=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    assert '"serial": 2' in capsys.readouterr().err


def test_a_second_signer_stands_beside_the_first(context: MockContext, folder: Path) -> None:
    _add(context, folder, digest=[DIGEST])
    _add(context, folder, by="other")
    content, lines = (folder / "acme.json").read_bytes(), (folder / "acme.json.sig").read_text().split()
    assert [any(key.public.verifies(b64decode(line), content) for line in lines) for key in (SIGNER, OTHER)] == [
        True,
        True,
    ]
    assert json.loads(content)["serial"] == 1


def test_nothing_is_added_to_what_somebody_else_has_changed(context: MockContext, folder: Path) -> None:
    _add(context, folder, key=[str(folder / "stolen.pub")])
    path = folder / "acme.json"
    path.write_text(path.read_text().replace(STOLEN.public.fingerprint, OTHER.public.fingerprint))
    changed = path.read_bytes()
    with pytest.raises(Exit, match="is not signed by this key") as caught:
        _add(context, folder, digest=[DIGEST])
    assert caught.value.code == 2
    assert path.read_bytes() == changed
    _add(context, folder)  # looked at, and signed as it is
    _add(context, folder, digest=[DIGEST])
    assert load(folder / "policy.yaml").revoked_keys == (OTHER.public.fingerprint,)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (None, "there is no such list, and nothing to put into one"),
        (" " * (1 << 20) + " ", "acme.json: more than 1048576 bytes"),
        ("{", "expected a list of version countersign.revocations/v1"),
        ('{"version": "countersign.policy/v1"}', "version: Input should be 'countersign.revocations/v1'"),
    ],
)
def test_what_is_no_list_is_told(context: MockContext, folder: Path, content: str | None, found: str) -> None:
    if content is not None:
        (folder / "acme.json").write_text(content)
    with pytest.raises(Exit, match=re.escape(found)) as caught:
        _add(context, folder)
    assert caught.value.code == 2
    assert not (folder / "acme.json.sig").exists()
