"""Roots of trust by certificate: read strictly, rendered for the gate, and left to it by every other engine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from countersign.console.config import ROOT
from countersign.policy import crio, gate, kyverno, subjects
from countersign.policy.explain import explain
from countersign.policy.load import load
from countersign.policy.model import Policy, Rule
from countersign.policy.notes import notes
from countersign.policy.part import part
from countersign.policy.problems import PolicyInvalid

Write = Callable[[str], Path]
Load = Callable[[str], Policy]

FILES = ROOT / "gate" / "internal" / "judge" / "testdata"
VECTORS = ROOT / "shared" / "vectors"
SUBJECT = "https://github.com/acme/app/.github/workflows/release.yml@refs/tags/*"
KEYLESS = f"issuer: https://i.example, subject: '{SUBJECT}', trustedRoot: tr-v1.json"
PKI = "roots: [byo-root.pem], intermediates: [byo-int.pem], email: release@example.test"
WHOLE = f"""roots:
  release:
    keyless:
      issuer: https://token.actions.githubusercontent.com
      subject: "{SUBJECT}"
      claims: {{ref: refs/tags/v1}}
      trustedRoot: [tr-v1.json, tr-ct.json]
  corp: {{pki: {{{PKI}}}}}
scopes:
  registry.example/app: {{anyOf: [release]}}
  registry.example/corp: {{allOf: [corp, release]}}
revoked:
  certificates:
    - byo-int.pem
    - {{issuer: "CN=ca,O=acme", serial: "0A:FF"}}
"""


@pytest.fixture(autouse=True)
def files(tmp_path: Path) -> None:
    for name in ("tr-v1.json", "tr-ct.json", "tr-fulcio-only.json", "byo-root.pem", "byo-int.pem"):
        shutil.copy(FILES / name, tmp_path)


def test_what_is_rendered_is_what_the_gate_reads(loaded: Load) -> None:
    """The gate's own test reads the same file; ``python -m json.tool`` shows what differs."""
    assert gate.render(loaded(WHOLE)).decode() == (VECTORS / "rendered-certificates.json").read_text()


def test_subjects_are_refused_as_by_the_gate() -> None:
    vectors = json.loads((VECTORS / "subjects.json").read_text())
    assert {subject: why for subject in vectors["taken"] if (why := subjects.wrong(subject))} == {}
    assert [subject for subject in vectors["refused"] if not subjects.wrong(subject)] == []


@pytest.mark.parametrize(
    ("root", "key", "message"),
    [
        (f"keyless: {{{KEYLESS.replace('acme/app', '*/app')}}}", "keyless.subject", "wildcard in its host"),
        (f"keyless: {{{KEYLESS.replace('https://i', 'https://*')}}}", "keyless.issuer", "without a wildcard"),
        (f"keyless: {{{KEYLESS}, claims: {{owner: acme}}}}", "keyless.claims.owner", "expected one of ownerID"),
        (
            f"keyless: {{{KEYLESS}, regexp: x}}",
            "keyless.regexp",
            "unknown key; expected one of issuer, subject, claims, trustedRoot, require",
        ),
        (f"keyless: {{{KEYLESS}, require: {{log: 2}}}}", "keyless.trustedRoot", "lists 1 of 2 for log"),
        (f"keyless: {{{KEYLESS}, require: {{log: -1}}}}", "keyless.require.log", "greater than or equal to 0"),
        (f"keyless: {{{KEYLESS.replace('v1', 'fulcio-only')}}}", "keyless.trustedRoot", "lists 0 of 1 for time"),
        (f"keyless: {{{KEYLESS.replace('tr-v1.json', 'no.json')}}}", "keyless.trustedRoot", "No such file"),
        (f"keyless: {{{KEYLESS.replace('tr-v1.json', 'byo-root.pem')}}}", "keyless.trustedRoot", "no JSON"),
        (f"keyless: {{{KEYLESS.replace('tr-v1.json', '[]')}}}", "keyless.trustedRoot", "at least one"),
        (f"keyless: {{{KEYLESS.replace('tr-v1.json', '{}')}}}", "keyless.trustedRoot", "or a list of them"),
        ("keyless: {issuer: https://i.example, subject: x}", "keyless.trustedRoot", "is missing"),
        (f"pki: {{{PKI}, dns: a.example}}", "pki", "expected one of email, dns, uri"),
        (f"pki: {{{PKI.replace('release@example.test', chr(34) + '*@example.test' + chr(34))}}}", "pki", "written out"),
        (f"pki: {{{PKI.replace('byo-root.pem', 'team.pub')}}}", "pki.roots", "no certificate"),
        (f"pki: {{{PKI}, crls: [byo-int.pem]}}", "pki.crls", "no list of revoked certificates"),
        (f"pki: {{{PKI}}}, publicKey: {{files: [team.pub]}}", "", "expected one of publicKey, keyless, pki"),
    ],
)
def test_a_root_that_is_none(write: Write, root: str, key: str, message: str) -> None:
    with pytest.raises(PolicyInvalid) as caught:
        load(write(f"roots: {{x: {{{root}}}}}\n"))
    [problem] = caught.value.problems
    assert problem.where.endswith(f": roots.x{'.' if key else ''}{key}")
    assert message in problem.text


@pytest.mark.parametrize("root", [f"keyless: {{{KEYLESS}}}", f"pki: {{{PKI}}}"])
def test_a_root_that_is_one(loaded: Load, root: str) -> None:
    assert loaded(f"roots: {{x: {{{root}}}}}\n").roots["x"].identity


def test_a_root_may_do_without_a_trusted_time(loaded: Load) -> None:
    text = KEYLESS.replace("v1", "fulcio-only") + ", require: {time: 0}"
    root = json.loads(gate.render(loaded(f"roots: {{x: {{keyless: {{{text}}}}}}}\n")))["roots"]["x"]
    assert root["keyless"]["require"] == {"time": 0}


MIXED = f"""roots: {{team: {{publicKey: {{files: [team.pub]}}}}, corp: {{pki: {{{PKI}}}}}}}
scopes:
  r.example/any: {{anyOf: [team, corp]}}
  r.example/all: {{allOf: [team, corp]}}
  r.example/corp: {{allOf: [corp]}}
  r.example/team: {{anyOf: [team]}}
"""


def test_other_engines_ask_for_what_they_know_and_leave_the_rest_to_the_gate(loaded: Load) -> None:
    policy = loaded(MIXED)
    assert {name: str(scope.rule) for name, scope in part(policy, crio.ENGINE)[0].scopes.items()} == {
        "r.example/any": "accept",
        "r.example/all": "allOf: team, corp",
        "r.example/corp": "allOf: corp",
        "r.example/team": "anyOf: team",
    }
    assert kyverno.render(policy) == render_without_certificates(policy)


def render_without_certificates(policy: Policy) -> bytes:
    """Return the ImageValidatingPolicy of a policy in which each scope has the rule that keys alone can say."""
    from dataclasses import replace

    rules = {
        "r.example/any": Rule("accept"),
        "r.example/all": Rule("allOf", ("team",)),
        "r.example/corp": Rule("accept"),
        "r.example/team": Rule("anyOf", ("team",)),
    }
    scopes = {name: replace(scope, rule=rules[name]) for name, scope in policy.scopes.items()}
    plain = replace(policy, scopes=scopes, roots={"team": policy.roots["team"]})
    return kyverno.render(plain)


def test_what_is_left_to_the_gate_is_named_scope_by_scope(loaded: Load) -> None:
    found = [note for note in notes(loaded(MIXED)) if "judged by the gate alone" in note]
    assert [(note.split(":")[0], note.rpartition("; ")[2]) for note in found] == [
        ("scopes.r.example/any", "CRI-O's own engine lets it pass"),
        ("scopes.r.example/any", "Kyverno lets it pass"),
        ("scopes.r.example/all", "Kyverno lets it pass"),
        ("scopes.r.example/corp", "Kyverno lets it pass"),
    ]


MAIL = "issuer: https://i.example, subject: me@acme.example, trustedRoot: tr-v1.json"


@pytest.mark.parametrize(
    ("root", "why"),
    [
        (f"pki: {{{PKI}}}", ""),
        (f"pki: {{{PKI.replace('email: release@example.test', 'dns: a.example')}}}", "takes wildcards in certificates"),
        (f"pki: {{{PKI.replace('email: release@example.test', 'uri: https://a.example/x')}}}", "knows no URIs"),
        (f"keyless: {{{MAIL}}}", ""),
        (f"keyless: {{{KEYLESS}}}", "knows e-mail addresses only"),
        (
            f"keyless: {{{MAIL.replace('me@', chr(39) + '*@').replace('.example, t', '.example' + chr(39) + ', t')}}}",
            "wildcards",
        ),
        (f"keyless: {{{MAIL.replace('tr-v1.json', '[tr-v1.json, tr-ct.json]')}}}", "several trusted roots"),
        (f"keyless: {{{MAIL}, require: {{log: 0}}}}", "wants a log entry"),
        (f"keyless: {{{MAIL.replace('v1', 'ended')}}}", "no authority without an end"),
        (f"keyless: {{{MAIL.replace('v1', 'log-ended')}}}", "no Rekor v1 without an end"),
    ],
)
def test_what_crios_engine_cannot_say_of_a_certificate_is_left_with_a_reason(
    loaded: Load, tmp_path: Path, root: str, why: str
) -> None:
    trusted = json.loads((tmp_path / "tr-v1.json").read_text())
    ended = {"validFor": {"start": "2020-01-01T00:00:00Z", "end": "2099-01-01T00:00:00Z"}}
    authorities = [{**each, **ended} for each in trusted["certificateAuthorities"]]
    (tmp_path / "tr-ended.json").write_text(json.dumps({**trusted, "certificateAuthorities": authorities}))
    logs = [{**each, "publicKey": {**each["publicKey"], **ended}} for each in trusted["tlogs"]]
    (tmp_path / "tr-log-ended.json").write_text(json.dumps({**trusted, "tlogs": logs}))
    policy = loaded(f"roots: {{x: {{{root}}}}}\nscopes: {{r.example/app: {{anyOf: [x]}}}}\n")
    kept, left = part(policy, crio.ENGINE)
    assert (kept.scopes["r.example/app"].rule.kind == "accept") == bool(why)
    assert not why or why in left[0]


def test_whom_a_root_trusts_is_explained(loaded: Load) -> None:
    found = explain(loaded(WHOLE), "registry.example/corp/x:v1")
    assert found.identities == {
        "corp": "pki email release@example.test",
        "release": f"keyless {SUBJECT} (issuer https://token.actions.githubusercontent.com, ref refs/tags/v1)",
    }
    assert found.as_json()["identities"] == found.identities
