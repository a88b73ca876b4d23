"""Notation roots: read strictly, rendered for the gate and notation itself; what notation can't be told is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from countersign.console.config import ROOT
from countersign.policy import crio, gate, identities, kyverno, notation
from countersign.policy.explain import explain
from countersign.policy.load import load
from countersign.policy.model import Policy, Rule
from countersign.policy.part import part
from countersign.policy.problems import PolicyInvalid

Write = Callable[[str], Path]
Load = Callable[[str], Policy]
VECTORS = ROOT / "shared" / "vectors"
WHO = '"x509.subject: C=FI, ST=Uusimaa, O=Acme, CN=release"'
NOTARY = f"roots: [ca.pem], identities: [{WHO}]"
NOW = datetime.now(UTC)


@pytest.fixture(autouse=True)
def files(tmp_path: Path) -> None:
    """Put beside the policy an authority, a signer of its own, one of the authority's, and lists of revocations."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")])
    for file, subject, ca in (("ca.pem", "ca", True), ("own.pem", "ca", False), ("leaf.pem", "leaf", False)):
        made = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(7)
            .not_valid_before(NOW - timedelta(days=1))
            .not_valid_after(NOW + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        (tmp_path / file).write_bytes(made.public_bytes(serialization.Encoding.PEM))
    whole = x509.CertificateRevocationListBuilder().issuer_name(name).last_update(NOW).next_update(NOW + timedelta(1))
    part = whole.add_extension(
        x509.IssuingDistributionPoint(None, None, True, False, None, False, False), critical=True
    )
    for file, crl in (("all.crl", whole), ("part.crl", part)):
        (tmp_path / file).write_bytes(crl.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))


def test_identities_are_refused_as_by_the_gate() -> None:
    vectors = json.loads((VECTORS / "identities.json").read_text())
    assert {each: why for each in vectors["taken"] if (why := identities.wrong(each))} == {}
    assert [each for each in vectors["refused"] if not identities.wrong(each)] == []


@pytest.mark.parametrize(
    ("root", "key", "message"),
    [
        ("roots: [ca.pem]", "identities", "is missing"),
        ("roots: [ca.pem], identities: []", "identities", "at least one entry"),
        (f"identities: [{WHO}]", "roots", "at least one certificate"),
        ("roots: [ca.pem], identities: ['*']", "identities[0]", "does not start with x509.subject:"),
        ("roots: [ca.pem], identities: ['x509.subject: C=FI, O=*']", "identities[0]", "has a wildcard"),
        ("roots: [ca.pem], identities: ['x509.subject: CN=release']", "identities[0]", "could be anybody"),
        (f"roots: [ca.pem], identities: ['x509.subject: C=FI, O=Acme', {WHO}]", "identities[1]", "leave one out"),
        (f"roots: [leaf.pem], identities: [{WHO}]", "roots", "neither an authority's certificate"),
        (f"roots: [no.pem], identities: [{WHO}]", "roots", "No such file"),
        (f"roots: [team.pub], identities: [{WHO}]", "roots", "no certificate"),
        (f"{NOTARY}, level: permissive", "level", "unknown key"),
        (f"{NOTARY}, timestampRoots: [leaf.pem]", "timestampRoots", "neither an authority's certificate"),
        (f"{NOTARY}, crls: [ca.pem]", "crls", "no list of revoked certificates"),
        (f"{NOTARY}, crls: [part.crl]", "crls", "a part of a list"),
    ],
)
def test_a_root_that_is_none(write: Write, root: str, key: str, message: str) -> None:
    with pytest.raises(PolicyInvalid) as caught:
        load(write(f"roots: {{x: {{notation: {{{root}}}}}}}\n"))
    [problem] = caught.value.problems
    assert problem.where.endswith(f": roots.x.notation.{key}")
    assert message in problem.text


@pytest.mark.parametrize(
    "root",
    [
        NOTARY,
        NOTARY.replace("ca.pem", "own.pem"),
        NOTARY.replace("roots:", "signingAuthorities:"),
        f"{NOTARY}, timestampRoots: [ca.pem], crls: [all.crl]",
        "roots: [ca.pem], identities: ['x509.subject: C=FI, O=Acme, CN=release']",
    ],
)
def test_what_the_gate_is_given(loaded: Load, tmp_path: Path, root: str) -> None:
    policy = loaded(f"roots: {{x: {{notation: {{{root}}}}}}}\nscopes: {{r.example/app: {{anyOf: [x]}}}}\n")
    given = json.loads(gate.render(policy))["roots"]["x"]["notation"]
    assert set(given) == {part.split(":")[0].strip() for part in root.split("], ")}
    assert (given.get("roots") or given["signingAuthorities"])[0].startswith("-----BEGIN CERTIFICATE-----")
    assert explain(policy, "r.example/app:v1").identities["x"].startswith("notation x509.subject: C=FI")


TEXT = f"""roots:
  notary: {{notation: {{{NOTARY}, timestampRoots: [ca.pem]}}}}
  second: {{notation: {{roots: [own.pem], identities: ['x509.subject: C=FI, ST=Lappi, O=Acme']}}}}
  short: {{notation: {{roots: [ca.pem], identities: ['x509.subject: C=FI, O=Acme']}}}}
  team: {{publicKey: {{files: [team.pub]}}}}
scopes:
  r.example/app: {{anyOf: [notary]}}
  r.example/also: {{allOf: [notary]}}
  r.example/either: {{anyOf: [team, second]}}
  r.example/both: {{allOf: [team, notary]}}
  r.example/two: {{anyOf: [notary, second]}}
  r.example/short: {{anyOf: [short]}}
  r.example/team: {{anyOf: [team]}}
  r.example/free: accept
  r.example/never: reject
  whole.example: {{anyOf: [notary]}}
revoked: {{certificates: [ca.pem]}}
"""


def test_what_notation_is_given(loaded: Load) -> None:
    policy = loaded(TEXT)
    assert json.loads(notation.render(policy)) == {
        "version": "1.0",
        "trustPolicies": [
            {
                "name": "notary",
                "registryScopes": ["r.example/also", "r.example/app"],
                "signatureVerification": {"level": "strict", "verifyTimestamp": "afterCertExpiry"},
                "trustStores": ["ca:notary", "tsa:notary"],
                "trustedIdentities": ["x509.subject: C=FI, ST=Uusimaa, O=Acme, CN=release"],
            },
            {
                "name": "second",
                "registryScopes": ["r.example/either"],
                "signatureVerification": {"level": "strict", "verifyTimestamp": "afterCertExpiry"},
                "trustStores": ["ca:second"],
                "trustedIdentities": ["x509.subject: C=FI, ST=Lappi, O=Acme"],
            },
        ],
    }
    assert set(notation.files(policy)) == {
        "trustpolicy.json",
        "truststore/x509/ca/notary/1.pem",
        "truststore/x509/tsa/notary/1.pem",
        "truststore/x509/ca/second/1.pem",
    }


def test_what_notation_cannot_be_told_is_named(loaded: Load) -> None:
    lines = dict(line.split(": ", 1) for line in notation.left_out(loaded(TEXT)))
    assert {name: why.split(",")[0] for name, why in lines.items()} == {
        "scopes.r.example/both": "notation cannot ask for team as well",
        "scopes.r.example/two": "notation has one statement a repository",
        "scopes.r.example/short": "notation takes no identity without ST",
        "scopes.r.example/team": "notation cannot read signatures of team",
        "scopes.r.example/free": "there is nothing that notation could verify",
        "scopes.r.example/never": "rejected by having no statement",
        "scopes.whole.example": "a whole registry",
        "revoked.certificates": "judged by the gate alone; take such an authority out of its root",
    }


def test_the_folder_is_written_whole_or_not_at_all(loaded: Load, tmp_path: Path) -> None:
    policy, folder = loaded(TEXT), tmp_path / "notation"
    assert notation.write(folder, policy) == len(notation.files(policy))
    first = {each.relative_to(folder): each.read_bytes() for each in folder.rglob("*") if each.is_file()}
    (folder / "truststore" / "x509" / "ca" / "notary" / "2.pem").write_text("of an earlier policy")
    notation.write(folder, policy)
    assert {each.relative_to(folder): each.read_bytes() for each in folder.rglob("*") if each.is_file()} == first
    (folder / "signingkeys.json").write_text("{}")
    with pytest.raises(OSError, match=r"holds other things \(signingkeys.json\)"):
        notation.write(folder, policy)
    assert {each.name for each in tmp_path.iterdir() if each.name.startswith("notation")} == {"notation"}


def test_other_engines_leave_it_to_the_gate(loaded: Load) -> None:
    policy = loaded(f"roots: {{x: {{notation: {{{NOTARY}}}}}}}\nscopes: {{r.example/app: {{anyOf: [x]}}}}\n")
    assert part(policy, crio.ENGINE)[0].scopes["r.example/app"].rule == Rule("accept")
    assert b"notation) are judged at pull and at create" in kyverno.render(policy)
    assert part(policy, kyverno.VERIFY_IMAGES)[1] == [
        "scopes.r.example/app: x (notation: Kyverno compares no subjects) is judged by the gate alone"
    ]


def test_the_notary_project_attests_nothing(write: Write, loaded: Load) -> None:
    roots = f"roots: {{x: {{notation: {{{NOTARY}}}}}, team: {{publicKey: {{files: [team.pub]}}}}}}\n"
    asked = "scopes: {r.example: {anyOf: [x], attestations: [{type: a/b, by: [BY]}]}}\n"
    loaded(roots + asked.replace("BY", "team"))
    with pytest.raises(PolicyInvalid) as caught:
        load(write(roots + asked.replace("BY", "x")))
    (problem,) = caught.value.problems
    assert problem.where.endswith("scopes.r.example.attestations[0].by[0]")
    assert "attests nothing" in problem.text
