from __future__ import annotations

import pytest

from lab.trials.engines import MEANS, PATTERNS, agrees, code_of
from lab.trials.model import load
from lab.trials.rows import reason_codes

PULL = (
    "SignatureValidationFailed: unable to pull image or OCI artifact: pull image err: copying system image from "
    "manifest list: Source image rejected: {}; artifact err: image reference: reference is a container image, not "
    "an OCI artifact"
)
BAD = "cryptographic signature verification failed: invalid signature when validating ASN.1 encoded signature"
OTHER = 'Signature for identity "registry.countersign.test/cases/original" is not accepted'
REASONS = {
    "A signature was required, but no signature exists": "UNSIGNED",
    BAD: "BAD_SIGNATURE",
    f"Signature for digest sha256:{'4f' * 32} does not match": "OTHER_IMAGE",
    OTHER: "OTHER_IMAGE",
    "Running image docker://registry.countersign.test/cases/rejected:v1 is rejected by policy.": "NO_SCOPE",
    'Required email "a@example.com" not found (got []string{"b@example.com"})': "WRONG_IDENTITY",
    'Unexpected Fulcio OIDC issuer "https://other.example"': "WRONG_IDENTITY",
    "veryfing leaf certificate failed: x509: certificate signed by unknown authority": "UNTRUSTED_CHAIN",
    "veryfing leaf certificate failed: x509: certificate has expired or is not yet valid: now": "EXPIRED",
    "missing dev.sigstore.cosign/bundle annotation": "NO_TRUSTED_TIME",
    "cryptographic signature verification of Rekor SET failed": "NO_TRUSTED_TIME",
}


@pytest.mark.parametrize(
    ("reason", "code"), REASONS.items(), ids=[f"{code}-{number}" for number, code in enumerate(REASONS.values())]
)
def test_the_engines_reason_has_its_code_at_pull_and_in_the_library(reason: str, code: str) -> None:
    assert code_of(PULL.format(reason)) == code
    assert code_of(reason) == code


CACHED = (
    'checking signature of "registry.countersign.test/cases/unsigned:v1": verifying signatures: '
    "SignatureValidationFailed: A signature was required, but no signature exists"
)
ABSENT = (
    'validator "00-default-validator" rejected container adjustment, reason: validation error: required plugin '
    '"countersign" not present'
)
HOOK_GONE = "error running createRuntime hook #0: fork/exec /opt/bin/countersign-hook: no such file or directory"
REFUSED = "pinging container registry 127.0.0.1:5000: dial tcp 127.0.0.1:5000: connect: connection refused"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (CACHED, "UNSIGNED"),
        (ABSENT, "GATE_DOWN"),
        ("CRI CreateContainer: UNKNOWN: validator plugin 10-countersign failed: ttrpc: closed", "GATE_DOWN"),
        (HOOK_GONE, "GATE_DOWN"),
        ("user specified image not specified, cannot verify image signature", "BAD_REFERENCE"),
        (
            f"parse image reference: invalid repository name ({'4f' * 32}), cannot specify 64-byte hexadecimal strings",
            "BAD_REFERENCE",
        ),
        (
            'get default policy: invalid policy in "/etc/countersign/crio/policy.json": Unknown key "x"',
            "POLICY_INVALID",
        ),
        ("get default policy: open /etc/countersign/crio/policy.json: no such file or directory", ""),
        (REFUSED, "REGISTRY_ERROR"),
        ("tls: failed to verify certificate: x509: certificate signed by unknown authority", "REGISTRY_ERROR"),
        ("unable to retrieve auth token: invalid username/password: unauthorized", "REGISTRY_AUTH"),
    ],
)
def test_what_cri_o_says_beside_its_engine_has_its_code(text: str, code: str) -> None:
    assert code_of(text) == code


def test_of_several_signatures_the_one_that_got_furthest_counts() -> None:
    assert code_of(f"None of the signatures were accepted, reasons: {BAD}; {OTHER}") == "OTHER_IMAGE"
    assert code_of(f"None of the signatures were accepted, reasons: {OTHER}; {BAD}") == "OTHER_IMAGE"
    assert code_of(f"None of the signatures were accepted, reasons: {BAD}; {BAD}") == "BAD_SIGNATURE"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "open /etc/countersign/crio/keys/team-0.pub: permission denied",
        "open /etc/countersign/crio/keys/team-0.pub: no such file or directory",
        'invalid policy in "/etc/containers/policy.json": unexpected end of JSON input',
        "signature verified",
        'plugin "other" not present',
    ],
)
def test_what_is_no_refusal_has_no_code(text: str) -> None:
    assert not code_of(text)


def test_a_code_stands_for_itself_and_for_what_cannot_be_told_apart() -> None:
    assert agrees("OTHER_IMAGE", "OTHER_IMAGE")
    assert not agrees("OTHER_IMAGE", "UNSIGNED")
    assert agrees("UNSIGNED", "OTHER_IMAGE")
    assert agrees("NO_SCOPE", "REJECTED_BY_SCOPE")
    assert not agrees("NO_SCOPE", "UNSIGNED")


def test_an_unreachable_registry_is_no_verdict_of_the_gate() -> None:
    assert not [case.code for case in load() if case.way == "pull" and agrees("REGISTRY_ERROR", case.code)]


def test_a_code_stands_for_codes_of_its_own_verdict_alone() -> None:
    codes = reason_codes()
    assert {code for _, code in PATTERNS} <= set(codes)
    for code, meant in MEANS.items():
        assert {codes[each] for each in meant} == {codes[code]}
