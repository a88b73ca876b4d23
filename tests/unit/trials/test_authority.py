"""The lab's own Sigstore, judged by another implementation: sigstore-python, offline."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from sigstore.errors import VerificationError
from sigstore.models import Bundle, TrustedRoot
from sigstore.verify import Verifier
from sigstore.verify.policy import AllOf, Identity, OIDCIssuerV2

from lab.trials import authority, certified
from lab.trials.authority import Authority, Signer
from lab.trials.signers import ISSUER, PAST, WORKFLOW, workflow
from signing import bundle as bundles

DIGEST = "sha256:" + "ab" * 32
OURS, STRANGERS = authority.make(), authority.make()


@pytest.fixture
def verify(tmp_path: Path) -> Callable[[bytes], bytes]:
    """Return what gives the statement of a bundle that sigstore-python finds good under our trusted root."""
    path = tmp_path / "trusted_root.json"
    path.write_text(json.dumps(OURS.trusted_root()))
    verifier = Verifier(trusted_root=TrustedRoot.from_file(str(path)))
    identity = AllOf([Identity(identity=WORKFLOW), OIDCIssuerV2(ISSUER)])
    return lambda content: verifier.verify_dsse(Bundle.from_json(content), identity)[1]


def bundle(signer: Signer, log: Authority | None = OURS) -> bytes:
    return certified.bundle(signer, bundles.statement(DIGEST), log)


def test_a_bundle_of_the_authority_is_good_under_its_trusted_root(verify: Callable[[bytes], bytes]) -> None:
    assert verify(bundle(workflow(OURS))) == bundles.statement(DIGEST)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (bundle(workflow(STRANGERS)), "chain"),
        (bundle(workflow(OURS), STRANGERS), "log"),
        (bundle(workflow(OURS, valid=PAST)), "valid"),
        (bundle(workflow(OURS, sct=False)), "SCT"),
        (bundle(workflow(OURS, WORKFLOW.replace("acme", "other"))), "SANs"),
        (bundle(workflow(OURS, issuer="https://gitlab.example")), "OIDCIssuerV2 does not match"),
    ],
    ids=["authority", "log", "time", "sct", "name", "issuer"],
)
def test_a_bundle_that_differs_in_one_thing_is_not(verify: Callable[[bytes], bytes], content: bytes, said: str) -> None:
    with pytest.raises(VerificationError, match=said):
        verify(content)
