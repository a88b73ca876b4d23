"""Attesting: types by cosign's names, predicates that all read alike, and statements that are added once."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from invoke.config import Config
from invoke.context import MockContext

from countersign.console.errors import UsageError
from countersign.keys import pair as keys
from countersign.oci import referrers
from countersign.oci.registry import Registry
from signing import attest, attest_tasks, bundle, stored
from signing.signer import ByKey
from tests.fake_registry import FakeRegistry
from tests.images import push_image, push_index

KEY = keys.generate()
SPDX = "https://spdx.dev/Document"
SBOM = '{"spdxVersion": "SPDX-2.3", "packages": []}'


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "predicate.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    ("name", "uri"), [("spdxjson", SPDX), ("slsaprovenance1", "https://slsa.dev/provenance/v1"), ("urn:x:y", "urn:x:y")]
)
def test_a_type_is_a_short_name_or_a_uri(name: str, uri: str) -> None:
    assert attest.predicate_type(name) == uri


@pytest.mark.parametrize("name", ["", "sbom", "https:", "https://a b", bundle.PREDICATE_TYPE, "x:" + "y" * 600])
def test_anything_else_is_no_type(name: str) -> None:
    with pytest.raises(UsageError, match=r"--type|no type"):
        attest.predicate_type(name)


def test_a_predicate_is_read_as_it_is(tmp_path: Path) -> None:
    assert attest.predicate(write(tmp_path, SBOM), "spdxjson") == json.loads(SBOM)
    assert attest.predicate(write(tmp_path, '{"a": {"a": 1}}')) == {"a": {"a": 1}}
    said = {"Data": "not JSON", "Timestamp": ""}
    assert attest.predicate(write(tmp_path, "not JSON"), "custom") == said


@pytest.mark.parametrize(
    ("text", "name", "found"),
    [
        ("x", "", "no JSON"),
        ('{"a": 1, "a": 2}', "", "duplicate member"),
        ('{"a": {"b": 1, "b": 2}}', "", "duplicate member"),
        ('{"a": NaN}', "", "NaN"),
        ('{"a": "\\ud800"}', "", "no JSON"),
        (b'{"a": "\xff"}', "", "no JSON"),
        ("[]", "", "not a JSON object"),
        ('{"a":' * 61 + "1" + "}" * 61, "", "too deep"),
        ("[" * 100_000, "", "no JSON"),
        ('{"bomFormat": "CycloneDX"}', "spdxjson", "spdxVersion"),
    ],
)
def test_what_two_readers_could_take_for_two_things_is_refused(
    tmp_path: Path, text: str | bytes, name: str, found: str
) -> None:
    with pytest.raises(UsageError, match=found):
        attest.predicate(write(tmp_path, text), name)


def test_a_predicate_has_16_MiB_at_most(tmp_path: Path) -> None:  # noqa: N802  the unit
    whole = b'{"a":"' + b"x" * (attest.PREDICATE_LIMIT - 8) + b'"}'
    assert len(attest.predicate(write(tmp_path, whole))["a"]) == attest.PREDICATE_LIMIT - 8
    with pytest.raises(UsageError, match="larger than 16 MiB"):
        attest.predicate(write(tmp_path, whole + b" "))
    with pytest.raises(UsageError, match="cannot be read"):
        attest.predicate(tmp_path)


@pytest.mark.parametrize("api", [True, False], ids=["api", "fallback"])
def test_the_same_is_attested_once_and_anything_else_beside_it(fake: FakeRegistry, api: bool) -> None:
    fake.referrers_api = api
    registry, signer = Registry(), ByKey(KEY)
    target = push_image(registry, fake.name(), "v1")
    sbom = json.loads(SBOM)
    assert attest.attest(registry, fake.name(), target, signer, SPDX, sbom)
    assert not attest.attest(registry, fake.name(), target, signer, SPDX, sbom)
    assert attest.attest(registry, fake.name(), target, signer, SPDX, {**sbom, "more": 1})
    assert attest.attest(registry, fake.name(), target, signer, "urn:x:y", sbom)
    assert attest.attest(registry, fake.name(), target, ByKey(keys.generate()), SPDX, sbom)
    assert len(referrers.listing(registry, fake.name(), target.digest)) == 4
    assert stored.listed(registry, fake.name(), target.digest, "bundle") == []  # none is a signature


def test_one_of_ours_that_does_not_hold_is_not_there(fake: FakeRegistry) -> None:
    registry, sbom = Registry(), json.loads(SBOM)
    target = push_image(registry, fake.name(), "v1")
    stated = bundle.statement(target.digest, SPDX, sbom)
    forged = bundle.wrap(stated, keys.generate().sign(bundle.pae(stated)), KEY.public.hint)
    stored.add_bundle(registry, fake.name(), target, forged, SPDX)
    assert attest.attest(registry, fake.name(), target, ByKey(KEY), SPDX, sbom)


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MockContext:
    """A configuration with a key of its own."""
    monkeypatch.setenv("COSIGN_PASSWORD", "pw")
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "cosign.key").write_text(KEY.sealed(b"pw"))
    return MockContext(config=Config(overrides={"keys": str(tmp_path / "keys"), "state": str(tmp_path / "state")}))


def test_index_and_platforms_are_attested(
    context: MockContext, fake: FakeRegistry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = Registry()
    amd = push_image(registry, fake.name())
    index = push_index(registry, fake.name(), "v1", {"linux/amd64": amd})
    options: dict[str, Any] = {"image": [f"{fake.name()}:v1"], "type": "spdxjson", "json": True}
    for added in (True, False):
        attest_tasks.attest(context, predicate=str(write(tmp_path, SBOM)), **options)
        document = json.loads(capsys.readouterr().out)
        assert (document["version"], document["key"]) == ("countersign.attested/v1", KEY.public.fingerprint)
        (image,) = document["images"]
        assert [(one["digest"], one["added"]) for one in image["attested"]] == [
            (index.digest, added),
            (amd.digest, added),
        ]
    (entry,) = referrers.listing(registry, fake.name(), amd.digest)
    content = stored.content(registry, fake.name(), stored.Found("bundle", entry))
    statement = json.loads(base64.b64decode(json.loads(content)["dsseEnvelope"]["payload"]))
    assert (statement["predicateType"], statement["predicate"]) == (SPDX, json.loads(SBOM))
    assert statement["subject"][0]["digest"] == {"sha256": amd.digest.removeprefix("sha256:")}
