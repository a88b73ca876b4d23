"""Kyverno's policies: what the policy refuses is refused, or named as another layer's; nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from countersign.console.config import ROOT
from countersign.keys import pair as keys
from countersign.policy import kyverno
from countersign.policy.model import Policy

Load = Callable[[str], Policy]

DIGEST, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
ROOTS = "{team: {publicKey: {files: [team.pub]}}, both: {publicKey: {files: [team.pub, other.pub]}}}"
TEXT = f"""roots: {ROOTS}
scopes:
  r.example: {{allOf: [team, both]}}
  r.example/a: {{anyOf: [both]}}
  r.example/a/b: reject
  r.example/a/b/c: accept
  busybox: {{anyOf: [team]}}
pinned: [pause@{DIGEST}]
revoked: {{digests: ["{OTHER}"]}}
"""


def rendered(policy: Policy) -> dict[str, Any]:
    return dict(yaml.safe_load(kyverno.render(policy)))


def older(policy: Policy) -> dict[str, Any]:
    found = yaml.safe_load(kyverno.render_verify_images(policy))
    return {rule["name"]: rule for rule in found["spec"]["rules"]}


def expressions(document: dict[str, Any]) -> str:
    return " ".join(rule["expression"] for rule in document["spec"]["validations"])


def variable(document: dict[str, Any], name: str) -> str:
    return str(next(each["expression"] for each in document["spec"]["variables"] if each["name"] == name))


def test_the_longest_scope_stands_first_and_none_last(loaded: Load) -> None:
    assert json.loads(variable(rendered(loaded(TEXT)), "scopes")) == [
        "r.example/a/b/c",
        "index.docker.io/library/busybox",
        "r.example/a/b",
        "r.example/a",
        "r.example",
        "",
    ]


def test_what_has_no_scope_is_refused_even_by_the_least_policy(loaded: Load) -> None:
    for text in ("", TEXT):
        rules = rendered(loaded(text))["spec"]["validations"]
        assert 'variables.judged.all(i, i.scope != "")' in [rule["expression"] for rule in rules]


def test_every_scope_but_an_accepting_one_has_its_rule(loaded: Load) -> None:
    rules = rendered(loaded(TEXT))["spec"]["validations"]
    messages = [rule.get("messageExpression", "").partition('" +')[0] for rule in rules]
    assert [text.removeprefix('"countersign: ') for text in messages if "example" in text or "docker.io" in text] == [
        "no signature that docker.io/library/busybox asks for (anyOf: team), of ",
        "REJECTED_BY_SCOPE: r.example/a/b rejects ",
        "no signature that r.example/a asks for (anyOf: both), of ",
        "no signature that r.example asks for (allOf: team, both), of ",
    ]


def test_all_of_wants_every_root_and_any_of_one(loaded: Load) -> None:
    text = " ".join(expressions(rendered(loaded(TEXT))).split())
    assert 'i.scope != "r.example" || [["team/1"], ["both/1", "both/2"]].all(root, root.exists(key,' in text
    assert 'i.scope != "r.example/a" || [["both/1", "both/2"]].exists(root, root.exists(key,' in text


def test_every_key_is_an_attestor_with_a_second_one_for_bundles(loaded: Load, tmp_path: Path) -> None:
    attestors = {each["name"]: each["cosign"] for each in rendered(loaded(TEXT))["spec"]["attestors"]}
    team = keys.load_public(tmp_path / "team.pub").pem
    assert list(attestors) == ["both/1", "both/1/bundle", "both/2", "both/2/bundle", "team/1", "team/1/bundle"]
    assert attestors["team/1"]["key"]["data"] == attestors["team/1/bundle"]["key"]["data"] == team
    assert "annotations" not in attestors["team/1"]
    assert attestors["team/1/bundle"]["annotations"] == {"dev.cosignproject.cosign/signature": ""}


def test_a_revoked_key_is_nobodys_and_a_root_without_keys_is_never_fulfilled(loaded: Load) -> None:
    policy = replace(loaded(TEXT), revoked_keys=(_fingerprint(loaded, "team"),))
    document = rendered(policy)
    assert {each["name"] for each in document["spec"]["attestors"]} == {"both/2", "both/2/bundle"}
    assert 'i.scope != "r.example" || [[], ["both/2"]].all(root,' in " ".join(expressions(document).split())


def test_pins_and_revoked_digests_are_judged_by_digest(loaded: Load) -> None:
    document = rendered(loaded(TEXT))
    assert f'!(i.digest in ["{DIGEST}"])' in variable(document, "judged")
    assert f'variables.named.all(i, !(i.digest in ["{OTHER}"]))' in expressions(document)


@pytest.mark.parametrize("render", [kyverno.render, kyverno.render_verify_images])
def test_equal_policies_are_equal_bytes(loaded: Load, render: Callable[[Policy], bytes]) -> None:
    lines = TEXT.splitlines(keepends=True)
    shuffled = "".join([*lines[7:], lines[0], lines[1], *reversed(lines[2:7])])
    assert render(loaded(shuffled)) == render(loaded(TEXT))


@pytest.mark.parametrize(
    ("engine", "render"), [("kyverno", kyverno.render), ("kyverno-verifyimages", kyverno.render_verify_images)]
)
def test_what_the_engine_cannot_say_stands_in_its_policy(
    loaded: Load, engine: str, render: Callable[[Policy], bytes]
) -> None:
    noted = yaml.safe_load(render(loaded(TEXT)))["metadata"]["annotations"]["countersign/limits"]
    assert noted.split("; ") == list(kyverno.LIMITS[engine])


def test_verify_images_covers_a_scope_without_those_below_it(loaded: Load) -> None:
    rule = older(loaded(TEXT))["r.example/a"]["verifyImages"][0]
    assert rule["imageReferences"] == ["r.example/a:*", "r.example/a@*", "r.example/a/*"]
    below = [f"r.example/a/{path}{end}" for path in ("b/c", "b") for end in (":*", "@*", "/*")]
    assert rule["skipImageReferences"] == [*below, f"*@{DIGEST}"]


def test_verify_images_takes_no_other_port_for_the_same_registry(loaded: Load) -> None:
    assert older(loaded(TEXT))["r.example"]["verifyImages"][0]["imageReferences"] == ["r.example/*"]


def test_verify_images_wants_one_key_of_each_root(loaded: Load) -> None:
    rules = older(loaded(TEXT))
    assert [len(each["entries"]) for each in rules["r.example"]["verifyImages"][0]["attestors"]] == [1, 2]
    assert [len(each["entries"]) for each in rules["r.example/a"]["verifyImages"][0]["attestors"]] == [2]


def test_verify_images_refuses_a_scope_whose_keys_are_all_revoked(loaded: Load) -> None:
    good = loaded(TEXT)
    policy = replace(good, revoked_keys=(_fingerprint(loaded, "team"),))
    rules = older(policy)
    assert "reject docker.io/library/busybox" in rules
    assert "docker.io/library/busybox" not in rules
    assert "reject docker.io/library/busybox" not in older(good)


def test_verify_images_refuses_what_has_no_scope(loaded: Load) -> None:
    def conditions(text: str) -> Any:
        return older(loaded(text))["scope"]["validate"]["foreach"][0]["deny"]["conditions"]["all"]

    assert [(test["operator"], test["value"]) for test in conditions("")] == [("AnyNotIn", [])]
    digests, repositories = conditions(TEXT)
    assert (digests["operator"], digests["value"]) == ("AnyNotIn", [DIGEST])
    assert {"r.example", "r.example/*", "index.docker.io/library/busybox"} <= set(repositories["value"])


def _fingerprint(loaded: Load, root: str) -> str:
    return loaded(TEXT).roots[root].keys[0].fingerprint


GLOB = "https://github.com/acme/app/.github/workflows/release.yml@refs/tags/*"
IN_ROOT = "issuer: 'https://i.example/?a', subject: '{}', trustedRoot: {}"


def entries(policy: Policy) -> list[dict[str, Any]]:
    """Return the entries by certificate of a policy's one scope; none where it is left to the gate."""
    rule = older(policy).get("r.example/app", {"verifyImages": []})["verifyImages"]
    return [each["keyless"] for one in rule for attestors in one["attestors"] for each in attestors["entries"]]


@pytest.fixture
def trusted(tmp_path: Path) -> dict[str, Any]:
    """A trusted root with all kinds of authorities and logs, written as ``tr.json``."""
    files = ROOT / "gate" / "internal" / "judge" / "testdata"
    found, first = (json.loads((files / name).read_text()) for name in ("tr-ct.json", "tr-v1.json"))
    both = {**found, "tlogs": [*first["tlogs"], *found["tlogs"]]}  # a Rekor v1 and a Rekor v2
    (tmp_path / "tr.json").write_text(json.dumps(both))
    return both


def keyless(loaded: Load, subject: str = GLOB, roots: str = "tr.json", more: str = "") -> Policy:
    root = f"{{{IN_ROOT.format(subject, roots)}{more}}}"
    return loaded(f"roots: {{x: {{keyless: {root}}}}}\nscopes: {{r.example/app: {{anyOf: [x]}}}}\n")


def test_verify_images_has_all_that_it_trusts_in_itself(loaded: Load, trusted: dict[str, Any]) -> None:
    (entry,) = entries(keyless(loaded))
    assert entry["issuerRegExp"] == r"^(?:https://i\.example/\?a)$"
    assert entry["subjectRegExp"].endswith(r"/release\.yml@refs/tags/[^/]*)$")
    assert entry["roots"].count("BEGIN CERTIFICATE") == len(
        trusted["certificateAuthorities"][0]["certChain"]["certificates"]
    )
    assert entry["rekor"]["url"] == "https://rekor.invalid"
    assert "BEGIN PUBLIC KEY" in entry["rekor"]["pubkey"]
    assert "BEGIN PUBLIC KEY" in entry["ctlog"]["pubkey"]
    assert entries(keyless(loaded, more=", require: {sct: 0}"))[0]["ctlog"] == {"ignoreSCT": True}


def test_verify_images_trusts_nothing_that_ends(loaded: Load, trusted: dict[str, Any], tmp_path: Path) -> None:
    end = {"validFor": {"start": "2020-01-01T00:00:00Z", "end": "2099-01-01T00:00:00Z"}}
    for kind in ("certificateAuthorities", "tlogs", "ctlogs"):
        ended = [
            {**each, **end} if kind == "certificateAuthorities" else {**each, "publicKey": {**each["publicKey"], **end}}
            for each in trusted[kind]
        ]
        (tmp_path / "ended.json").write_text(json.dumps({**trusted, kind: ended}))
        assert entries(keyless(loaded, roots="ended.json")) == []
        assert len(entries(keyless(loaded, roots="[ended.json, tr.json]"))) == 1


def test_verify_images_asks_each_trusted_root_by_itself(loaded: Load, trusted: dict[str, Any], tmp_path: Path) -> None:
    both = {**trusted, "tlogs": [*trusted["tlogs"], *trusted["ctlogs"]]}
    (tmp_path / "two.json").write_text(json.dumps(both))
    assert len(entries(keyless(loaded, roots="[tr.json, two.json]"))) == 3
