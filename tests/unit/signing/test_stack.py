"""The private Sigstore: what is written, who may read it, what programs are told, and what its tokens say."""

from __future__ import annotations

import base64
import datetime as dt
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_private_key

from countersign.console.config import Settings
from countersign.console.errors import InfrastructureError, UsageError
from signing.stack import place, services, token
from signing.stack.place import Stack
from signing.stack.services import FirstEntry

NOW = dt.datetime(2026, 11, 29, tzinfo=dt.timezone.utc)
PROGRAMS = {name: Path("/programs", name) for name in services.TOOLS}
WORKFLOW = "https://github.com/acme/app/.github/workflows/release.yml@refs/tags/v1"


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    """Return a private Sigstore that is made and does not run."""
    found = place.find(Settings(state=tmp_path))
    for step in services.steps(found, PROGRAMS)[:2]:
        step.apply()
    return place.require(Settings(state=tmp_path))


def test_nobody_else_reads_it(stack: Stack) -> None:
    inside = [stack.folder, *stack.folder.rglob("*")]
    assert {path.stat().st_mode & 0o777 for path in inside if path.is_dir()} == {0o700}
    keys = {path for path in inside if path.name == "key.pem"}
    assert len(keys) == len(services.NAMES)
    assert {path.stat().st_mode & 0o777 for path in keys} == {0o600}
    assert {path for path in inside if path.is_file() and b"PRIVATE KEY" in path.read_bytes()} == keys


def test_it_is_made_once(stack: Stack) -> None:
    made = services.Made(stack)
    before = stack.trusted_root.read_bytes()
    assert not made.needed()
    again = place.find(Settings(state=stack.folder.parent))
    assert again == stack
    stack.kept_at.unlink()  # cut off before its end
    assert made.needed()
    made.apply()
    assert stack.trusted_root.read_bytes() != before


def test_programs_are_told_no_secret_and_listen_on_loopback(stack: Stack) -> None:
    for each in services.services(stack, PROGRAMS):
        words = " ".join(each.argv)
        assert "passw" not in words
        assert "PRIVATE" not in words
        assert place.HOST in words
        assert each.ready == f"tcp:127.0.0.1:{stack.ports[each.name]}"


def test_sigstore_reads_what_is_written(stack: Stack) -> None:
    from sigstore.models import ClientTrustConfig

    config = ClientTrustConfig.from_json(stack.trust_config.read_text())
    assert len(config.trusted_root.get_fulcio_certs()) == 2
    assert config.signing_config.get_oidc_url() == stack.mail_issuer
    root = json.loads(stack.trusted_root.read_text())
    assert json.loads(stack.trust_config.read_text())["trustedRoot"] == root
    newest, older = root["tlogs"]
    assert isinstance(load_der_public_key(base64.b64decode(newest["publicKey"]["rawBytes"])), ed25519.Ed25519PublicKey)
    assert isinstance(load_der_public_key(base64.b64decode(older["publicKey"]["rawBytes"])), ec.EllipticCurvePublicKey)


def test_what_cannot_be_read_is_named(stack: Stack) -> None:
    stack.kept_at.write_text('{"ports": {"issuer": 1}}')
    with pytest.raises(UsageError, match=r"stack\.json"):
        place.find(Settings(state=stack.folder.parent))


def test_without_one_its_start_is_named(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match=r"signing\.stack\.start"):
        place.require(Settings(state=tmp_path))


def test_a_port_of_someone_else_is_told(stack: Stack) -> None:
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", stack.ports["fulcio"]))
        with pytest.raises(InfrastructureError, match=f"port {stack.ports['fulcio']} of fulcio"):
            place.check_ports(stack, {"fulcio": ("fulcio",)})
    place.check_ports(stack, {"fulcio": ("fulcio",)})


def parts(text: str) -> tuple[dict[str, object], dict[str, object], bytes]:
    head, said, signature = (base64.urlsafe_b64decode(part + "==") for part in text.split("."))
    return json.loads(head), json.loads(said), signature


@pytest.mark.parametrize(("subject", "issuer"), [("me@acme.example", "mail"), (WORKFLOW, "workflows")])
def test_a_token_is_signed_by_the_issuers_key(stack: Stack, subject: str, issuer: str) -> None:
    text = token.mint(stack, subject)
    head, said, signature = parts(text)
    (key,) = json.loads((stack.folder / "issuer" / "keys.json").read_text())["keys"]
    assert head == {"alg": "ES256", "typ": "JWT", "kid": key["kid"]}
    assert said["iss"] == f"{stack.url('issuer')}/{issuer}"
    assert said["aud"] == "sigstore"
    private = load_pem_private_key((stack.folder / "issuer" / "key.pem").read_bytes(), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    numbers = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
    signed = text.rpartition(".")[0].encode()
    private.public_key().verify(utils.encode_dss_signature(*numbers), signed, ec.ECDSA(SHA256()))


def test_a_workflows_claims_are_those_of_its_name(stack: Stack) -> None:
    said = token.claims(stack, WORKFLOW, 1)
    assert said["job_workflow_ref"] == "acme/app/.github/workflows/release.yml@refs/tags/v1"
    assert (said["repository"], said["repository_owner"], said["ref"]) == ("acme/app", "acme", "refs/tags/v1")
    assert said["exp"] == 1 + token.LIFETIME


@pytest.mark.parametrize(
    "subject",
    [
        "me",
        "me@acme.example\n",
        "me@acme.example,you@acme.example",
        "https://github.com/acme/app",
        "https://github.com/acme/app/.github/workflows/release.yml",
        "https://gitlab.com/acme/app/.github/workflows/release.yml@refs/tags/v1",
        f"{WORKFLOW} ",
    ],
)
def test_a_subject_that_is_neither_is_refused(stack: Stack, subject: str) -> None:
    with pytest.raises(UsageError, match=r"an e-mail address, or https://github\.com/"):
        token.claims(stack, subject, 1)


@pytest.mark.parametrize(
    ("checkpoint", "needed"),
    [("127.0.0.1\n0\nhash\n", True), ("127.0.0.1\n1\nhash\n", False), ("", True), (None, True)],
)
def test_a_log_without_entries_gets_one(stack: Stack, checkpoint: str | None, needed: bool) -> None:
    if checkpoint is not None:
        (stack.folder / "rekor" / "log" / "checkpoint").write_text(checkpoint)
    assert FirstEntry(stack).needed() is needed
