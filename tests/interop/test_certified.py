"""What we sign with a certificate and what we attest, held by the gate's engine and by cosign; and inspected."""

from __future__ import annotations

import base64
import json
import uuid
from pathlib import Path

import pytest
from cryptography import x509

from countersign.console.config import Settings
from countersign.keys import pair as keys
from countersign.oci.descriptor import Descriptor
from countersign.oci.reference import Reference, parse
from countersign.policy import gate as rendering
from countersign.policy.load import load as load_policy
from lab.trials import authority
from signing import attest, certified, inspection, sign
from signing.signer import ByKey
from signing.stored import FORMATS, Format
from signing.verify import Verdict, by_policy, program, verify
from tests.images import push_image
from tests.interop.conftest import PASSWORD, Cosign, Lab

pytestmark = pytest.mark.interop
CA = authority.make()
SIGNER = CA.issue(x509.RFC822Name("release@acme.example"))
SPDX = "https://spdx.dev/Document"
SBOM = {"spdxVersion": "SPDX-2.3", "SPDXID": "SPDXRef-DOCUMENT", "name": "x"}
ISSUER = ("--certificate-oidc-issuer-regexp", ".*")
each_format = pytest.mark.parametrize("chosen", FORMATS)


@pytest.fixture
def image(lab: Lab) -> tuple[Reference, Descriptor]:
    """A fresh image in a repository of its own."""
    ref = parse(f"{lab.netloc}/certified/{uuid.uuid4().hex}:v1")
    return ref, push_image(lab.client, ref.name, "v1", ref.name)


def rendered(folder: Path, name: str, email: str = "release@acme.example", key: Path | None = None) -> Path:
    """Write the policy of a scope that wants the certificate, or the key, and an SBOM if there is a key."""
    (folder / "ca.pem").write_text(CA.pem)
    roots: dict[str, object] = {"corp": {"pki": {"roots": ["ca.pem"], "email": email}}}
    scope: dict[str, object] = {"anyOf": ["corp"]}
    if key:
        roots["team"] = {"publicKey": {"files": [str(key)]}}
        scope = {"anyOf": ["team"], "attestations": [{"type": SPDX, "by": ["team"], "where": "predicate.name == 'x'"}]}
    (folder / "policy.yaml").write_text(
        json.dumps({"apiVersion": "countersign/v1", "roots": roots, "scopes": {name: scope}})
    )
    (folder / "policy.json").write_bytes(rendering.render(load_policy(folder / "policy.yaml")))
    return folder / "policy.json"


def says(settings: Settings, lab: Lab, ref: Reference, policy: Path) -> Verdict:
    return verify(program(settings), str(ref), by_policy(policy), lab.access)


def by_certificate(folder: Path) -> certified.ByCertificate:
    (folder / "leaf.pem").write_text(SIGNER.pem + CA.pem)
    return certified.signer(SIGNER.key, certified.load(folder / "leaf.pem"))


@each_format
def test_the_gate_takes_what_we_sign_with_a_certificate_and_no_other_name(
    settings: Settings, lab: Lab, image: tuple[Reference, Descriptor], tmp_path: Path, chosen: Format
) -> None:
    ref, target = image
    sign.sign(lab.client, ref.name, target, by_certificate(tmp_path), [chosen])
    good = says(settings, lab, ref, rendered(tmp_path, ref.name))
    assert (good["code"], good["format"]) == ("OK", chosen), good["message"]
    other = says(settings, lab, ref, rendered(tmp_path, ref.name, "other@acme.example"))
    assert other["code"] == "WRONG_IDENTITY"


@each_format
def test_cosign_takes_what_we_sign_with_a_certificate(
    cosign: Cosign, lab: Lab, image: tuple[Reference, Descriptor], tmp_path: Path, chosen: Format
) -> None:
    ref, target = image
    sign.sign(lab.client, ref.name, target, by_certificate(tmp_path), [chosen])
    chain = tmp_path / "ca.pem"
    chain.write_text(CA.pem)
    how = ["--ca-roots", str(chain), "--new-bundle-format=false"]
    if chosen == "bundle":
        how = ["--trusted-root", str(trusted_root(tmp_path)), "--new-bundle-format=true"]

    def verified(name: str) -> bool:
        who = ("--certificate-identity", name, *ISSUER, "--insecure-ignore-tlog", "--insecure-ignore-sct")
        words = ("verify", *who, *how, *lab.flags, str(ref.at(target.digest)))
        done = cosign.run(*words)
        if done.returncode and name == "release@acme.example":
            pytest.fail(done.stderr)
        return done.returncode == 0

    assert verified("release@acme.example")
    assert not verified("other@acme.example")


def trusted_root(folder: Path) -> Path:
    """Write the CA as a trusted root without logs."""
    document = CA.trusted_root() | {"tlogs": [], "ctlogs": []}
    (folder / "trusted_root.json").write_text(json.dumps(document))
    return folder / "trusted_root.json"


def test_the_gate_and_cosign_take_what_we_attest(
    settings: Settings,
    cosign: Cosign,
    lab: Lab,
    image: tuple[Reference, Descriptor],
    our_key: tuple[Path, Path],
    tmp_path: Path,
) -> None:
    ref, target = image
    signer = ByKey(keys.load_private(our_key[0], PASSWORD.encode()))
    policy = rendered(tmp_path, ref.name, key=our_key[1])
    sign.sign(lab.client, ref.name, target, signer)
    assert says(settings, lab, ref, policy)["code"] == "NO_ATTESTATION"
    assert attest.attest(lab.client, ref.name, target, signer, SPDX, SBOM)
    found = says(settings, lab, ref, policy)
    assert found["code"] == "OK", found["message"]
    how = ("--key", str(our_key[1]), "--insecure-ignore-tlog", "--type", "spdxjson", *lab.flags)
    done = cosign.run("verify-attestation", *how, str(ref.at(target.digest)))
    assert done.returncode == 0, done.stderr
    payload = json.loads(done.stdout.splitlines()[0])["payload"]
    assert json.loads(base64.b64decode(payload))["predicate"] == SBOM


def test_what_hangs_on_an_image_is_inspected(
    settings: Settings, lab: Lab, image: tuple[Reference, Descriptor], our_key: tuple[Path, Path], tmp_path: Path
) -> None:
    ref, target = image
    signer = ByKey(keys.load_private(our_key[0], PASSWORD.encode()))
    sign.sign(lab.client, ref.name, target, signer)
    sign.sign(lab.client, ref.name, target, by_certificate(tmp_path))
    attest.attest(lab.client, ref.name, target, by_certificate(tmp_path), SPDX, SBOM)
    policy = rendered(tmp_path, ref.name, key=our_key[1]).read_bytes()
    (digest,) = inspection.inspect(program(settings), str(ref), policy, lab.access)["digests"]
    assert digest["problems"] == []
    taken = {
        (one["format"], one.get("predicateType") == SPDX, *(root["root"] for root in one["roots"] if root["ok"]))
        for one in digest["signatures"]
    }
    assert taken == {
        ("attachment", False, "team"),
        ("attachment", False, "corp"),
        ("bundle", False, "team"),
        ("bundle", False, "corp"),
        ("bundle", True, "corp"),
    }
