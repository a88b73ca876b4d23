"""A policy includes signed lists of what is trusted no more: nodes are given them byte by byte."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from countersign.keys import pair as keys
from countersign.policy import cluster, kyverno, size
from countersign.policy.explain import explain
from countersign.policy.gate import render
from countersign.policy.model import Policy
from countersign.policy.notes import notes
from countersign.policy.problems import PolicyInvalid

Load = Callable[[str], Policy]

SIGNER, OTHER = keys.generate(), keys.generate()
OWN, LISTED, UNKNOWN = ("sha256:" + each * 64 for each in "abc")
TEXT = f"""roots: {{team: {{publicKey: {{files: [team.pub]}}}}}}
scopes: {{r.example/app: {{anyOf: [team]}}}}
pinned: [r.example/other@{LISTED}]
revoked: {{digests: ["{OWN}"], lists: [{{file: acme.json, keys: [security.pub]}}]}}
"""
WITHOUT = TEXT.replace(", lists: [{file: acme.json, keys: [security.pub]}]", "")


def _list(**members: Any) -> bytes:
    document = {"version": "countersign.revocations/v1", "name": "acme", "serial": 7, "issued": "2026-11-29"}
    document |= {"keys": [UNKNOWN], "certificates": [{"issuer": "CN=sub", "serial": "aff"}], "digests": [LISTED, OWN]}
    return json.dumps(document | members, indent=1).encode() + b"\n"


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., None]:
    """Put a list beside the policy, signed by a key, with the public key that the policy names."""
    (tmp_path / "security.pub").write_text(SIGNER.public.pem)

    def written(content: bytes, signer: keys.PrivateKey = SIGNER, signed: bytes | None = None) -> None:
        (tmp_path / "acme.json").write_bytes(content)
        signature = b64encode(signer.sign(content if signed is None else signed))
        (tmp_path / "acme.json.sig").write_bytes(b"AAAA\n\n" + signature + b"\n")

    return written


def test_the_gate_is_given_the_very_list(loaded: Load, put: Callable[..., None]) -> None:
    put(_list(name="acme"))
    policy = loaded(TEXT)
    revoked = json.loads(render(policy))["revoked"]
    (carried,) = revoked.pop("lists")
    assert carried["document"].encode() == _list()
    assert carried["keys"] == [SIGNER.public.pem]
    assert len(carried["signatures"]) == 2
    assert revoked == {"keys": [], "certificates": [], "digests": []}, "what the list names stands there alone"
    assert json.loads(render(loaded(WITHOUT)))["revoked"] == {"keys": [], "certificates": [], "digests": [OWN]}


def test_what_it_names_is_revoked_everywhere(loaded: Load, put: Callable[..., None], tmp_path: Path) -> None:
    team = keys.load_public(tmp_path / "team.pub").fingerprint
    put(_list(keys=[team]))
    policy, without = loaded(TEXT), loaded(WITHOUT)
    assert policy.revoked_digests == (OWN, LISTED)
    assert policy.revoked_certificates == (("CN=sub", "aff"),)
    name = f"r.example/app@{LISTED}"
    assert [explain(each, name).revoked for each in (policy, without)] == [True, False]
    assert explain(policy, name).keys[0].revoked
    assert explain(policy, name).lists == ["acme: serial 7 of 2026-11-29, 4 entries"]
    assert [LISTED.encode() in kyverno.render(replace(each, pinned=())) for each in (policy, without)] == [True, False]


def test_a_key_that_other_policies_know_is_no_mistake(loaded: Load, put: Callable[..., None]) -> None:
    put(_list())
    assert not [line for line in notes(loaded(TEXT)) if "the key of no root" in line or "duplicate" in line]
    own = TEXT.replace("digests: [", f'keys: ["{OWN}"], digests: [')
    assert [line for line in notes(loaded(own)) if "the key of no root" in line]


@pytest.mark.parametrize(
    ("how", "found"),
    [
        (None, ""),
        ({"signer": OTHER}, "none is by a key that the policy names, of these very bytes"),
        ({"signed": _list(serial=8)}, "none is by a key that the policy names, of these very bytes"),
        ({"content": _list() + b" " * (1 << 20)}, "more than 1048576 bytes"),
        ({"content": _list(serial=0)}, "serial: Input should be greater than or equal to 1"),
        ({"content": _list(issued="2026-02-30")}, "day is out of range for month"),
        ({"content": _list(name="a b")}, "name: String should match"),
        ({"content": _list(digests=["sha256:AA"])}, "digests[0]: String should match"),
        ({"content": _list(certificates=["a.pem"])}, "certificates[0]: String should match"),
        ({"content": _list(digests=[LISTED] * 10_001)}, "digests: List should have at most 10000 items"),
        ({"content": _list(other=1)}, "other: Extra inputs are not permitted"),
        ({"content": _list().replace(b'"serial": 7', b'"serial": 7, "serial": 7')}, "a member twice among"),
        ({"content": b"keys: []"}, "expected a list of version countersign.revocations/v1, as JSON"),
        ({"content": b"[" * 100_000}, "expected a list of version countersign.revocations/v1, as JSON"),
        ({"content": b"\xff"}, "expected a list of version countersign.revocations/v1, as JSON"),
    ],
)
def test_what_is_no_signed_list_is_told(
    loaded: Load, put: Callable[..., None], how: dict[str, Any] | None, found: str
) -> None:
    put(**{"content": _list(), **(how or {})})
    if not found:
        assert loaded(TEXT).lists[0].serial == 7
        return
    with pytest.raises(PolicyInvalid) as caught:
        loaded(TEXT)
    assert found in caught.value.problems[0].text
    assert caught.value.problems[0].where.endswith("policy.yaml:6: revoked.lists[0].file")


def test_missing_files_are_told(loaded: Load, put: Callable[..., None], tmp_path: Path) -> None:
    put(_list())
    assert loaded(TEXT)
    for gone, found in (
        ("acme.json.sig", "acme.json.sig, and there is none; have it signed: ./inv signing.revocation-list"),
        ("acme.json", "acme.json: No such file or directory"),
        ("security.pub", "security.pub"),
    ):
        kept = (tmp_path / gone).read_bytes()
        (tmp_path / gone).unlink()
        with pytest.raises(PolicyInvalid) as caught:
            loaded(TEXT)
        assert [found in str(problem) for problem in caught.value.problems] == [True]
        (tmp_path / gone).write_bytes(kept)


def test_a_list_stands_in_a_policy_once(loaded: Load, put: Callable[..., None]) -> None:
    put(_list())
    entry = "{file: acme.json, keys: [security.pub]}"
    with pytest.raises(PolicyInvalid) as caught:
        loaded(TEXT.replace(entry, f"{entry}, {entry}"))
    assert "revoked.lists[1].file: acme.json: the list 'acme' is a duplicate" in str(caught.value.problems[0])


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        ("{file: acme.json}", "revoked.lists[0].keys: is missing"),
        ("{file: acme.json, keys: []}", "expected at least one entry"),
        ("{file: acme.json, key: [security.pub]}", "revoked.lists[0].key: unknown key; did you mean keys?"),
        ("acme.json", "expected a mapping"),
    ],
)
def test_what_is_mistyped_is_told(loaded: Load, put: Callable[..., None], entry: str, found: str) -> None:
    put(_list())
    with pytest.raises(PolicyInvalid) as caught:
        loaded(TEXT.replace("{file: acme.json, keys: [security.pub]}", entry))
    assert any(found in str(problem) for problem in caught.value.problems)


def test_what_a_cluster_cannot_store_is_said(loaded: Load, put: Callable[..., None]) -> None:
    def digests(number: int) -> dict[str, list[str]]:
        parts = ("keys", "digests", "certificates")
        return {part: [f"sha256:{one:064x}" for one in range(number)] for part in parts}

    def named(number: int) -> Policy:
        put(_list(**digests(number)))
        return loaded(TEXT)

    assert not [note for note in notes(named(3000)) if "rendered" in note]
    (note,) = (note for note in notes(named(4400)) if "rendered" in note)
    assert "a ConfigMap takes 1048576" in note
    size.check(named(4400))
    size.check_object(named(4400), cluster.render(named(4400)))
    put(_list())
    both = loaded(TEXT)
    large = replace(both, lists=tuple(replace(both.lists[0], name=f"l{one}", text="x" * 1_000_000) for one in (1, 2)))
    (note,) = (note for note in notes(large) if "rendered" in note)
    assert "stores 1500000 as one object" in note
    size.check(large)
    with pytest.raises(PolicyInvalid, match="a cluster stores as one object"):
        size.check_object(large, cluster.render(large))
    five = replace(both, lists=tuple(replace(large.lists[0], name=f"l{one}") for one in range(5)))
    with pytest.raises(PolicyInvalid, match="4194304 are what a gate reads"):
        size.check(five)
