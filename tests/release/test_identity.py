"""Releases that somebody signs without a key: exactly that workflow, and no other."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography import x509

from countersign.oci.descriptor import Descriptor
from countersign.oci.registry import Registry
from countersign.tools import taking
from countersign.tools.recipes import Recipe, Released, Tool
from countersign.tools.released import Wanted
from lab.trials import authority, certified
from lab.trials.authority import Authority
from release.trust import ByIdentity
from signing import attachment, bundle, stored
from signing.stored import Format
from tests.fake_registry import Reply, serving
from tests.release.conftest import Make

ISSUER = "https://token.actions.githubusercontent.com"
WORKFLOW = "https://github.com/acme/app/.github/workflows/release.yml@refs/tags/v1.2.3"


@dataclass(frozen=True)
class Workflow:
    """Signs as a workflow does: with a key for this once, and a certificate and a log entry for it."""

    sigstore: Authority
    subject: str
    issuer: str = ISSUER

    def file(self, content: bytes) -> bytes:
        """See ``release.signer.Signer``."""
        signer = self._signer()
        signature, digest = signer.key.sign(content), hashlib.sha256(content)
        spec = {
            "data": {"hash": {"algorithm": "sha256", "value": digest.hexdigest()}},
            "signature": {"content": _b64(signature), "publicKey": {"content": _b64(signer.pem.encode())}},
        }
        entry = self.sigstore.log("hashedrekord", spec)
        material = {"certificate": {"rawBytes": _b64(signer.der)}, "tlogEntries": [entry]}
        stated = {"algorithm": "SHA2_256", "digest": _b64(digest.digest())}
        message = {"messageDigest": stated, "signature": _b64(signature)}
        document = {"mediaType": bundle.MEDIA_TYPE, "verificationMaterial": material, "messageSignature": message}
        return json.dumps(document).encode()

    def statement(self, content: bytes) -> bytes:
        """See ``release.signer.Signer``."""
        return certified.bundle(self._signer(), content, self.sigstore)

    def image(self, registry: Registry, name: str, target: Descriptor, formats: Sequence[Format]) -> None:
        """See ``release.signer.Signer``."""
        assert set(formats) == {"attachment", "bundle"}
        stored.add_bundle(registry, name, target, self.statement(bundle.statement(target.digest)))
        claim = attachment.payload(name, target.digest)
        signed = certified.attachment(self._signer(), claim, self.sigstore)
        stored.add_attachment(registry, name, target.digest, signed)

    def wrote(self, _: bytes) -> bool:
        """See ``release.signer.Signer``: whose key it was, nobody knows any more."""
        return False

    def _signer(self) -> authority.Signer:
        return self.sigstore.issue(x509.UniformResourceIdentifier(self.subject), self.issuer)


def _b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.fixture(scope="module")
def sigstore() -> Authority:
    return authority.make()


@pytest.fixture
def trusted(sigstore: Authority, tmp_path: Path) -> ByIdentity:
    """That workflow, at any version's tag."""
    root = tmp_path / "trusted_root.json"
    root.write_text(json.dumps(sigstore.trusted_root()))
    return ByIdentity(ISSUER, WORKFLOW, root)


def test_a_release_of_that_workflow_is_good(make: Make, sigstore: Authority, trusted: ByIdentity) -> None:
    assert make(signer=Workflow(sigstore, WORKFLOW)).verify(trusted) == {}


@pytest.mark.parametrize(
    "subject",
    [
        WORKFLOW.replace("release.yml", "test.yml"),
        WORKFLOW.replace("refs/tags/v1.2.3", "refs/heads/main"),
        WORKFLOW.replace("acme", "eve"),
    ],
)
def test_a_release_of_another_workflow_is_refused(
    make: Make, sigstore: Authority, trusted: ByIdentity, subject: str
) -> None:
    made = make(signer=Workflow(sigstore, subject))
    assert made.verify(replace(trusted, subject=subject)) == {}
    assert made.verify(trusted) == {"SHA256SUMS": "wrong-identity"}


def test_a_release_of_that_workflow_as_another_issuer_tells_it_is_refused(
    make: Make, sigstore: Authority, trusted: ByIdentity
) -> None:
    other = "https://token.actions.githubusercontent.com.evil.example"
    made = make(signer=Workflow(sigstore, WORKFLOW, other))
    assert made.verify(replace(trusted, issuer=other)) == {}
    assert made.verify(trusted) == {"SHA256SUMS": "wrong-identity"}


def test_images_of_another_workflow_are_refused(make: Make, sigstore: Authority, trusted: ByIdentity) -> None:
    from tests.release.test_verify import resign_all

    made = make(signer=Workflow(sigstore, WORKFLOW.replace("acme", "eve")))
    resign_all(made, Workflow(sigstore, WORKFLOW))
    refused = made.verify(trusted)
    assert set(refused.values()) == {"wrong-identity"}
    assert all("@sha256:" in what for what in refused)


def test_a_release_of_another_sigstore_is_refused(make: Make, trusted: ByIdentity) -> None:
    made = make(signer=Workflow(authority.make(), WORKFLOW))
    assert made.verify(trusted) == {"SHA256SUMS": "bad-signature"}


def test_the_resolver_takes_its_programs(make: Make, sigstore: Authority, trusted: ByIdentity, tmp_path: Path) -> None:
    folder = make(signer=Workflow(sigstore, WORKFLOW)).folder
    tools = (Tool("app", "app", None), Tool("other", "other", None))
    own = Released("", ISSUER, WORKFLOW.replace("1.2.3", "{version}"), "", {})
    with serving() as server:
        server.faults.append(lambda request: Reply(200, (folder / request.path.lstrip("/")).read_bytes()))
        url, root = f"http://{server.netloc}", trusted.trusted_root.read_bytes()
        release = Wanted(own, "1.2.3", "arm64", asked=True, url=url, trusted_root=root)
        taking.take(Recipe("app", tools, released=own), release, tmp_path, {})
        for each in tools:
            (path,) = tmp_path.glob(f"*/{each.file}")
            assert path.read_bytes() == (folder / f"{each.name}-1.2.3-linux-arm64").read_bytes()
        with pytest.raises(taking.Refused, match="SANs do not match"):
            taking.take(Recipe("app", tools, released=own), replace(release, version="1.2.4"), tmp_path, {})
