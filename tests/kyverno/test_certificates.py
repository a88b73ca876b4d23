"""Roots by certificate, as ``verifyImages`` has them, judged by Kyverno's engine: never laxer than the gate."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography import x509

from countersign.oci.descriptor import Descriptor
from countersign.policy import kyverno
from countersign.policy.load import load
from countersign.policy.part import part
from lab.trials import authority, certified
from lab.trials.signers import ISSUER, PAST, PERSON, WORKFLOW, person, workflow
from signing import attachment, bundle, stored
from signing.sign import sign
from tests.kyverno.conftest import ALLOWED, World

OURS, STRANGERS = authority.make(), authority.make()
GLOB = WORKFLOW.replace("tags/v1", "tags/*")
Signed = tuple[authority.Signer, authority.Authority | None]


@pytest.fixture(autouse=True)
def files(world: World) -> None:
    (world.folder / "trusted_root.json").write_text(json.dumps(OURS.trusted_root()))
    (world.folder / "authority.pem").write_text(OURS.pem)


def attach(world: World, name: str, what: Descriptor, by: Signed, *, other: bool = False) -> None:
    payload = attachment.payload(name, f"sha256:{'0' * 64}" if other else what.digest)
    stored.add_attachment(world.client, name, what.digest, certified.attachment(by[0], payload, by[1]))


def judged(world: World, name: str, root: str, rule: dict[str, Any]) -> tuple[str, str]:
    """Return what Kyverno says of an image, and the gate's code."""
    policy = world.policy(name, json.dumps(rule), f"  release: {root}\n")
    assert part(load(policy), kyverno.VERIFY_IMAGES)[0].scopes[name].rule.kind != "accept"
    document = kyverno.render_verify_images(load(policy))
    return world.kyverno(document, f"{name}:v1"), world.gate(policy, f"{name}:v1")


def keyless(subject: str = GLOB, more: str = "") -> str:
    return f'{{keyless: {{issuer: "{ISSUER}", subject: "{subject}", trustedRoot: trusted_root.json{more}}}}}'


@pytest.mark.parametrize(
    ("by", "code", "words"),
    [
        pytest.param((workflow(OURS), OURS), ALLOWED, ALLOWED, id="right"),
        pytest.param((workflow(STRANGERS), OURS), "UNTRUSTED_CHAIN", "unknown authority", id="other authority"),
        pytest.param((workflow(OURS, f"{WORKFLOW}/x"), OURS), "WRONG_IDENTITY", "subject mismatch", id="past the glob"),
        pytest.param((workflow(OURS, f"x{WORKFLOW}"), OURS), "WRONG_IDENTITY", "subject mismatch", id="before it"),
        pytest.param((workflow(OURS, issuer="https://o.example"), OURS), "WRONG_IDENTITY", "issuer", id="other issuer"),
        pytest.param((workflow(OURS, sct=False), OURS), "NO_TRUSTED_TIME", "SCT", id="no SCT"),
        pytest.param((workflow(OURS, valid=PAST), OURS), "EXPIRED", "certificate", id="expired"),
        pytest.param((workflow(OURS), None), "NO_TRUSTED_TIME", "rekor.invalid", id="no log entry"),
        pytest.param((workflow(OURS), STRANGERS), "NO_TRUSTED_TIME", "rekor", id="other log"),
    ],
)
def test_a_workflow_is_asked_for_as_the_gate_asks(world: World, by: Signed, code: str, words: str) -> None:
    name, what = world.image()
    attach(world, name, what, by)
    said, found = judged(world, name, keyless(), {"anyOf": ["release"]})
    assert (found, words in said, said == ALLOWED) == (code, True, code == ALLOWED), said


def test_a_certificate_is_one_of_several_roots(world: World) -> None:
    name, what = world.image()
    attach(world, name, what, (workflow(OURS), OURS), other=True)
    for rule in ({"anyOf": ["team", "release"]}, {"allOf": ["team", "release"]}):
        assert ALLOWED not in judged(world, name, keyless(), rule)
    attach(world, name, what, (workflow(OURS), OURS))
    assert judged(world, name, keyless(), {"anyOf": ["team", "release"]}) == (ALLOWED, ALLOWED)
    assert ALLOWED not in judged(world, name, keyless(), {"allOf": ["team", "release"]})
    sign(world.client, name, what, world.keys["team"], ["attachment"])
    assert judged(world, name, keyless(), {"allOf": ["team", "release"]}) == (ALLOWED, ALLOWED)


@pytest.mark.parametrize(
    ("by", "code"),
    [
        pytest.param(person(OURS), ALLOWED, id="right"),
        pytest.param(person(STRANGERS), "UNTRUSTED_CHAIN", id="other authority"),
        pytest.param(person(OURS, f"x{PERSON}"), "WRONG_IDENTITY", id="other person"),
        pytest.param(person(OURS, PERSON.replace("@acme.", "@acmex")), "WRONG_IDENTITY", id="a dot is a dot"),
        pytest.param(person(OURS, valid=PAST), "EXPIRED", id="expired"),
        pytest.param(person(OURS, usage=authority.SERVER_AUTH), "UNTRUSTED_CHAIN", id="not for code"),
    ],
)
def test_a_certificate_of_ones_own_authority_is_asked_for(world: World, by: authority.Signer, code: str) -> None:
    name, what = world.image()
    attach(world, name, what, (by, None))
    said, found = judged(world, name, f"{{pki: {{roots: [authority.pem], email: {PERSON}}}}}", {"anyOf": ["release"]})
    assert (found, said == ALLOWED) == (code, code == ALLOWED), said


@pytest.mark.parametrize(("kind", "name"), [("dns", x509.DNSName), ("uri", x509.UniformResourceIdentifier)])
def test_names_of_other_kinds_are_exact(world: World, kind: str, name: Any) -> None:
    wanted = "release.acme.example" if kind == "dns" else "https://acme.example/release"
    wild = "*.acme.example" if kind == "dns" else "https://acme.example/releases"
    for held, code in ((wanted, ALLOWED), (wild, "WRONG_IDENTITY")):
        image, what = world.image()
        attach(world, image, what, (OURS.issue(name(held), sct=False), None))
        root = f'{{pki: {{roots: [authority.pem], {kind}: "{wanted}"}}}}'
        said, found = judged(world, image, root, {"anyOf": ["release"]})
        assert (found, said == ALLOWED) == (code, code == ALLOWED), said


def test_what_kyverno_does_not_look_at_is_named(world: World) -> None:
    name, what = world.image()
    attach(world, name, what, (workflow(OURS), OURS))
    root = keyless(more=", claims: {ref: refs/tags/v1}")
    assert judged(world, name, root, {"anyOf": ["release"]}) == (ALLOWED, "WRONG_IDENTITY")
    (line,) = part(load(world.folder / "policy.yaml"), kyverno.VERIFY_IMAGES)[1]
    assert "the claims of release is judged by the gate alone" in line


def by_one(attestor: dict[str, Any]) -> bytes:
    """Return an ImageValidatingPolicy that wants a signature's statement by one attestor."""
    spec = {
        "validationActions": ["Deny"],
        "validationConfigurations": {"mutateDigest": False, "verifyDigest": False, "required": False},
        "matchConstraints": {
            "resourceRules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
            ]
        },
        "matchImageReferences": [{"glob": "**"}],
        "attestors": [{"name": "one", "cosign": attestor}],
        "attestations": [{"name": "signature", "intoto": {"type": "https://sigstore.dev/cosign/sign/v1"}}],
        "validations": [
            {
                "expression": "images.containers.all(i, verifyAttestationSignatures(i, attestations.signature,"
                " [attestors.one]) > 0)",
                "message": "not by this one",
            }
        ],
    }
    kind = {"apiVersion": "policies.kyverno.io/v1", "kind": "ImageValidatingPolicy", "metadata": {"name": "one"}}
    return json.dumps({**kind, "spec": spec}).encode()


def test_a_trusted_root_alone_is_not_enough_for_kyverno(world: World) -> None:
    """Why ImageValidatingPolicy leaves ``keyless`` to the gate: once this is allowed, it need not."""
    name, what = world.image()
    sign(world.client, name, what, world.keys["team"], ["bundle"])
    signer = workflow(OURS)
    stored.add_bundle(world.client, name, what, certified.bundle(signer, bundle.statement(what.digest), OURS))
    identity = {"identities": [{"issuer": ISSUER, "subject": WORKFLOW}]}
    trusted = {"trustedRoot": {"value": json.dumps(OURS.trusted_root())}, "tuf": {"mirror": "http://127.0.0.1:1"}}
    logs = {"insecureIgnoreTlog": True, "insecureIgnoreSCT": True}
    key = {"key": {"data": world.keys["team"].public.pem}, "ctlog": logs}
    assert world.kyverno(by_one(key), f"{name}:v1") == ALLOWED
    assert world.kyverno(by_one({"keyless": identity, **trusted}), f"{name}:v1") == "not by this one"
