"""What a scope asks for beside signatures: read strictly, given to the gate as it is, left to it by other engines."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from countersign.policy import attestations, conditions, crio, gate, kyverno
from countersign.policy.explain import explain
from countersign.policy.load import load
from countersign.policy.model import Attestation, Policy, Rule, duration
from countersign.policy.notes import notes
from countersign.policy.part import part
from countersign.policy.problems import PolicyInvalid

Write = Callable[[str], Path]
Load = Callable[[str], Policy]

SLSA = "https://slsa.dev/provenance/v1"
ROOTS = "roots: {team: {publicKey: {files: [team.pub]}}, other: {publicKey: {files: [other.pub]}}}\n"
WHERE = "predicate.buildDefinition.externalParameters.workflow.repository == 'https://github.com/acme/app'"
ASKED = f"""{{type: {SLSA}, by: [other], where: "{WHERE}", maxAge: 30d}}"""
FULL = f"""{ROOTS}scopes:
  r.example/app:
    anyOf: [team]
    signature: {SLSA}
    formats: [bundle]
    attestations:
    - {ASKED}
    - {{type: https://cyclonedx.org/bom, by: [team, other]}}
"""


def test_a_rule_has_what_it_asks_beside(loaded: Load) -> None:
    assert loaded(FULL).scopes["r.example/app"].rule == Rule(
        "anyOf",
        ("team",),
        ("bundle",),
        SLSA,
        (
            Attestation(SLSA, ("other",), WHERE, 30 * 86400),
            Attestation("https://cyclonedx.org/bom", ("team", "other")),
        ),
    )


def test_the_gate_is_given_it(loaded: Load) -> None:
    assert json.loads(gate.render(loaded(FULL)))["scopes"]["r.example/app"] == {
        "anyOf": ["team"],
        "signature": SLSA,
        "formats": ["bundle"],
        "attestations": [
            {"type": SLSA, "by": ["other"], "where": WHERE, "maxAge": "720h"},
            {"type": "https://cyclonedx.org/bom", "by": ["team", "other"]},
        ],
    }
    plain = loaded(f"{ROOTS}scopes: {{r.example/app: {{anyOf: [team]}}}}\n")
    assert json.loads(gate.render(plain))["scopes"]["r.example/app"] == {"anyOf": ["team"]}


@pytest.mark.parametrize(
    ("rule", "key", "message"),
    [
        ("{anyOf: [team], attestations: [{by: [team]}]}", "attestations[0].type", "is missing"),
        ("{anyOf: [team], attestations: [{type: a/b}]}", "attestations[0].by", "is missing"),
        ("{anyOf: [team], attestations: [{type: a/b, by: []}]}", "attestations[0].by", "at least one entry"),
        ("{anyOf: [team], attestations: [{type: a/b, by: team}]}", "attestations[0].by", "got 'team'; expected a list"),
        ("{anyOf: [team], attestations: [{type: a/b, by: [x]}]}", "attestations[0].by[0]", "unknown root 'x'"),
        ("{anyOf: [team], attestations: [{type: a/b, by: [team, team]}]}", "attestations[0].by[1]", "is a duplicate"),
        (
            "{anyOf: [team], attestations: [{type: a/b, by: [team], when: x}]}",
            "attestations[0].when",
            "unknown key; did you mean where?",
        ),
        ("{anyOf: [team], attestations: {type: a/b}}", "attestations", "expected a list"),
        (
            "{anyOf: [team], attestations: [{type: cyclonedx, by: [team]}]}",
            "attestations[0].type",
            "in full: https://cyclonedx.org/bom",
        ),
        ("{anyOf: [team], attestations: [{type: sbom, by: [team]}]}", "attestations[0].type", "predicate type in full"),
        (
            f"{{anyOf: [team], attestations: [{{type: {attestations.SIGN}, by: [team]}}]}}",
            "attestations[0].type",
            "the type of signatures",
        ),
        (
            "{anyOf: [team], attestations: [{type: a/b, by: [team], maxAge: 30}]}",
            "attestations[0].maxAge",
            "got 30; expected a string",
        ),
        (
            "{anyOf: [team], attestations: [{type: a/b, by: [team], maxAge: a month}]}",
            "attestations[0].maxAge",
            "such as 720h or 30d",
        ),
        (
            "{anyOf: [team], attestations: [{type: a/b, by: [team], maxAge: 0h}]}",
            "attestations[0].maxAge",
            "above zero",
        ),
        ("{anyOf: [team], attestations: [{type: a/b, by: [team], where: ''}]}", "attestations[0].where", "is empty"),
        ("{anyOf: [team], signature: slsaprovenance1}", "signature", f"in full: {SLSA}"),
        ("{anyOf: [team], signature: ''}", "signature", "predicate type in full"),
        ("{anyOf: [team], formats: [pgp]}", "formats[0]", "got 'pgp'; expected 'attachment', 'bundle' or 'notation'"),
        ("{anyOf: [team], formats: []}", "formats", "at least one entry"),
        ("{anyOf: [team], formats: [bundle, bundle]}", "formats[1]", "is a duplicate"),
        ("{anyOf: [team], formats: bundle}", "formats", "expected a list"),
    ],
)
def test_what_is_wrong_is_named_with_its_key(write: Write, rule: str, key: str, message: str) -> None:
    with pytest.raises(PolicyInvalid) as caught:
        load(write(f"{ROOTS}scopes:\n  r.example/app: {rule}\n"))
    (problem,) = caught.value.problems
    assert problem.line == 5
    assert problem.where.endswith(f": scopes.r.example/app.{key}")
    assert message in problem.text


def test_accept_and_reject_ask_for_nothing(write: Write) -> None:
    for rule in ("{accept: true, attestations: []}", "{attestations: []}"):
        with pytest.raises(PolicyInvalid, match=r"expected \{anyOf"):
            load(write(f"{ROOTS}scopes:\n  r.example/app: {rule}\n"))


@given(st.integers(min_value=1, max_value=100 * 366 * 86400))
def test_durations_are_read_as_they_are_written(number: int) -> None:
    assert attestations.seconds(duration(number)) == number


def test_durations() -> None:
    assert [attestations.seconds(text) for text in ("30d", "1h30m", "45s")] == [30 * 86400, 5400, 45]
    for text in ("", "h", "1", "1.5h", "-1h", "1h ", "1y", "99999999999h", "0s"):
        with pytest.raises(ValueError, match="expected a duration"):
            attestations.seconds(text)


def test_other_engines_keep_the_signatures_and_name_the_rest(loaded: Load) -> None:
    asked = f"attestations: [{ASKED}]"
    policy = loaded(f"{ROOTS}scopes: {{r.example/app: {{allOf: [team, other], {asked}}}}}\n")
    kept, left = part(policy, crio.ENGINE)
    assert kept.scopes["r.example/app"].rule == Rule("allOf", ("team", "other"))
    assert left == [f"scopes.r.example/app: the attestation {SLSA} is judged by the gate alone"]
    assert f"{SLSA} is judged" in "\n".join(notes(policy))


def test_where_an_attestation_may_stand_for_a_signature_other_engines_let_pass(loaded: Load) -> None:
    policy = loaded(f"{ROOTS}scopes: {{r.example/app: {{anyOf: [team], signature: {SLSA}}}}}\n")
    assert part(policy, crio.ENGINE)[0].scopes["r.example/app"].rule == Rule("accept")
    without = loaded(f"{ROOTS}scopes: {{r.example/app: {{anyOf: [team]}}}}\n")
    assert part(without, crio.ENGINE) == (without, [])


def test_crio_leaves_bundles_to_the_gate_and_kyverno_reads_them(loaded: Load) -> None:
    for formats, accepts in (("[bundle]", True), ("[attachment, bundle]", False), ("[attachment]", False)):
        policy = loaded(f"{ROOTS}scopes: {{r.example/app: {{anyOf: [team], formats: {formats}}}}}\n")
        assert (part(policy, crio.ENGINE)[0].scopes["r.example/app"].rule == Rule("accept")) == accepts
        text = kyverno.render(policy)
        assert (b"verifyImageSignatures" in text, b"attestations.signature" in text) == (
            "attachment" in formats,
            "bundle" in formats,
        )
        assert part(policy, kyverno.VALIDATING)[1] == []
        left = ["scopes.r.example/app: signatures in the format bundle is judged by the gate alone"]
        assert part(policy, crio.ENGINE)[1] == (left if accepts else [])


def test_kyverno_asks_for_attestations_by_key_and_names_what_it_cannot_tell(loaded: Load) -> None:
    policy = loaded(f"{ROOTS}scopes: {{r.example/app: {{anyOf: [team], attestations: [{ASKED}]}}}}\n")
    kept, left = part(policy, kyverno.VALIDATING)
    assert kept.scopes["r.example/app"].rule.attestations == (Attestation(SLSA, ("other",), WHERE),)
    assert left == [f"scopes.r.example/app: the age of the attestation {SLSA} is judged by the gate alone"]
    document = yaml.safe_load(kyverno.render(policy))["spec"]
    assert document["attestations"][1] == {"name": "type1", "intoto": {"type": SLSA}}
    (asked,) = (rule["expression"] for rule in document["validations"] if "extractPayload" in rule["expression"])
    assert (
        '["other/1"].exists(key, verifyAttestationSignatures(i.image, attestations.type1, [attestors[key]]) > 0'
        in asked
    )
    assert WHERE in asked
    assert "Kyverno lets it pass" in "\n".join(notes(policy))


def test_an_attestation_may_stand_for_a_signature_in_kyverno_too(loaded: Load) -> None:
    policy = loaded(f"{ROOTS}scopes: {{r.example/app: {{anyOf: [team], signature: {SLSA}}}}}\n")
    assert part(policy, kyverno.VALIDATING) == (policy, [])
    assert b"verifyAttestationSignatures(i.image, attestations.type1, [attestors[key]]) > 0" in kyverno.render(policy)
    assert part(policy, kyverno.VERIFY_IMAGES)[0].scopes["r.example/app"].rule == Rule("accept")


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ("predicate.a == '1/2'", ""),
        ("predicate.a == 1 // half of 2", ""),
        ("predicate.a / 2 == 1", "it calculates"),
        ("predicate.a % 2 == 1", "it calculates"),
        ("type(predicate.a) == int", "it calculates"),
        ("string(predicate.a) == '1'", "it calculates"),
        ("predicate.a == 9007199254740993", "it calculates"),
        ("predicate.a == r'\\' && predicate.b / 2 == 1 // '", "it has raw strings"),
    ],
)
def test_conditions_on_which_kyverno_could_say_otherwise_are_left_to_the_gate(
    loaded: Load, where: str, why: str
) -> None:
    asked = json.dumps([{"type": SLSA, "by": ["team"], "where": where}])
    policy = loaded(f"{ROOTS}scopes: {{r.example/app: {{anyOf: [team], attestations: {asked}}}}}\n")
    kept, left = part(policy, kyverno.VALIDATING)
    assert kept.scopes["r.example/app"].rule.attestations == (Attestation(SLSA, ("team",), "" if why else where),)
    assert [f"the condition on the attestation {SLSA} ({why}" in line for line in left] == [True] * bool(why)


def test_an_age_that_nothing_proves_is_noted(loaded: Load) -> None:
    found = [note for note in notes(loaded(FULL)) if "NO_TRUSTED_TIME" in note]
    assert len(found) == 1
    assert "attestations[0]: nothing proves when other has signed" in found[0]
    assert not [note for note in notes(loaded(FULL.replace(", maxAge: 30d", ""))) if "NO_TRUSTED_TIME" in note]


def test_a_root_that_only_attests_is_named_by_a_scope(loaded: Load) -> None:
    assert not [note for note in notes(loaded(FULL)) if "no scope names it" in note]


def test_explain_tells_what_is_asked(loaded: Load) -> None:
    found = explain(loaded(FULL), "r.example/app:v1")
    assert found.attestations[0] == f"{SLSA} by other, at most 720h old, where {WHERE}"
    assert {key.root for key in found.keys} == {"team", "other"}
    assert found.as_json()["attestations"] == found.attestations


def program(folder: Path, script: str) -> Path:
    path = folder / "countersign-gate"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_a_condition_that_the_gate_does_not_compile_is_named_with_its_line(write: Write, tmp_path: Path) -> None:
    policy = load(write(FULL))
    where = r"scopes.\"r.example/app\".attestations[0].where"
    said = f"POLICY_INVALID: {where}: line 1, column 5: oops; expected an expression in CEL; do"
    gate_program = program(tmp_path, f"""grep -q '"where"' && echo "error: {said}" >&2; exit 1""")
    with pytest.raises(PolicyInvalid) as caught:
        conditions.check(policy, gate_program)
    (problem,) = caught.value.problems
    assert problem.line == 10
    assert problem.text.startswith("line 1, column 5: oops, of ")
    assert problem.where.endswith("scopes.r.example/app.attestations[0].where")
    conditions.check(policy, program(tmp_path, "exit 0"))
