"""Certificates in the policy rendered for CRI-O: its engine, as a library, is never laxer than the gate."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from countersign.console.config import Settings
from countersign.keys.pair import generate
from countersign.oci.descriptor import Descriptor
from countersign.oci.registry import Registry
from countersign.policy import crio, gate
from countersign.policy.load import load
from countersign.policy.part import part
from countersign.tools.resolver import tool
from lab.trials import authority, certified
from lab.trials.engines import code_of
from lab.trials.library import files, judged_by
from lab.trials.signers import PAST
from signing import attachment, stored
from signing.sign import sign
from signing.verify import Access, by_policy, program, verify
from tests.images import push_image
from tests.interop.conftest import free_netloc, running

ISSUER, PERSON = "https://accounts.example", "release@acme.example"
OURS, STRANGERS = authority.make(), authority.make()
KEY = generate()
ALLOWED = "allowed"
KEYLESS: dict[str, Any] = {"issuer": ISSUER, "subject": PERSON, "trustedRoot": "trusted_root.json"}
Signed = tuple[authority.Signer, authority.Authority | None]


def person(by: authority.Authority = OURS, name: str = PERSON, issuer: str = ISSUER, **more: Any) -> authority.Signer:
    return by.issue(x509.RFC822Name(name), issuer, **more)


@dataclass(frozen=True)
class World:
    """A registry, and a folder with what the policy names."""

    settings: Settings
    netloc: str
    folder: Path

    def image(self) -> tuple[str, Descriptor]:
        name = f"{self.netloc}/certified/{uuid.uuid4().hex}"
        return name, push_image(Registry(), name, "v1", name)

    def attach(self, name: str, what: Descriptor, by: Signed, *, other: bool = False) -> None:
        payload = attachment.payload(name, f"sha256:{'0' * 64}" if other else what.digest)
        stored.add_attachment(Registry(), name, what.digest, certified.attachment(by[0], payload, by[1]))

    def judge(self, name: str, root: dict[str, Any], rule: dict[str, Any]) -> tuple[str, str]:
        """Return what CRI-O's engine and the gate say of an image."""
        roots = {"release": root, "team": {"publicKey": {"files": ["team.pub"]}}}
        document = {"apiVersion": "countersign/v1", "default": "reject", "roots": roots, "scopes": {name: rule}}
        path = self.folder / "policy.yaml"
        path.write_text(json.dumps(document))
        policy, image = load(path), f"{name}:v1"
        assert part(policy, crio.ENGINE)[0].scopes[name].rule.kind != "accept"
        (self.folder / "gate.json").write_bytes(gate.render(policy))
        found = verify(program(self.settings), image, by_policy(self.folder / "gate.json"), Access())
        options = files(self.folder, self.settings, path, {self.netloc: f"http://{self.netloc}"})
        line = judged_by([str(tool("countersign-library", self.settings)), *options, image], 1)[image]
        native = ALLOWED if line["allow"] else code_of(line["message"]) or line["message"]
        return native, ALLOWED if found["allow"] else found["code"]


@pytest.fixture(scope="module")
def world(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder, netloc = tmp_path_factory.mktemp("certificates"), free_netloc()
    (folder / "trusted_root.json").write_text(json.dumps(OURS.trusted_root()))
    (folder / "ca.pem").write_text(OURS.pem)
    (folder / "team.pub").write_text(KEY.public.pem)
    (folder / "data").mkdir()
    with running([str(tool("registry", settings)), "--address", netloc, "--dir", str(folder / "data")], netloc):
        yield World(settings, netloc, folder)


@pytest.mark.parametrize(
    ("by", "code"),
    [
        pytest.param((person(), OURS), ALLOWED, id="right"),
        pytest.param((person(STRANGERS), OURS), "UNTRUSTED_CHAIN", id="other authority"),
        pytest.param((person(name="intern@acme.example"), OURS), "WRONG_IDENTITY", id="other person"),
        pytest.param((person(issuer="https://other.example"), OURS), "WRONG_IDENTITY", id="other issuer"),
        pytest.param((person(valid=PAST), OURS), "EXPIRED", id="expired"),
        pytest.param((person(), None), "NO_TRUSTED_TIME", id="no log entry"),
        pytest.param((person(), STRANGERS), "NO_TRUSTED_TIME", id="other log"),
    ],
)
def test_a_person_without_a_key_is_asked_for_as_the_gate_asks(world: World, by: Signed, code: str) -> None:
    name, what = world.image()
    world.attach(name, what, by)
    assert world.judge(name, {"keyless": KEYLESS}, {"anyOf": ["release"]}) == (code, code)


def test_another_digest_is_another_image_and_all_of_wants_the_key_too(world: World) -> None:
    name, what = world.image()
    world.attach(name, what, (person(), OURS), other=True)
    assert world.judge(name, {"keyless": KEYLESS}, {"anyOf": ["release"]}) == ("OTHER_IMAGE", "OTHER_IMAGE")
    world.attach(name, what, (person(), OURS))
    native, found = world.judge(name, {"keyless": KEYLESS}, {"allOf": ["release", "team"]})
    assert ALLOWED not in {native, found}
    sign(Registry(), name, what, KEY, ["attachment"])
    assert world.judge(name, {"keyless": KEYLESS}, {"allOf": ["release", "team"]}) == (ALLOWED, ALLOWED)


def test_what_its_engine_does_not_look_at_is_named(world: World) -> None:
    name, what = world.image()
    world.attach(name, what, (person(sct=False), OURS))
    root = {"keyless": {**KEYLESS, "claims": {"ref": "refs/tags/v1"}}}
    assert world.judge(name, root, {"anyOf": ["release"]})[0] == ALLOWED
    assert world.judge(name, root, {"anyOf": ["release"]})[1] != ALLOWED
    (line,) = part(load(world.folder / "policy.yaml"), crio.ENGINE)[1]
    for what_is_left in ("the claims of release", "the certificate timestamps (sct) of release"):
        assert what_is_left in line


@pytest.mark.parametrize(
    ("by", "code"),
    [
        pytest.param(person(issuer=""), ALLOWED, id="right"),
        pytest.param(person(STRANGERS, issuer=""), "UNTRUSTED_CHAIN", id="other authority"),
        pytest.param(person(name="intern@acme.example", issuer=""), "WRONG_IDENTITY", id="other person"),
        pytest.param(person(name=PERSON.upper(), issuer=""), "WRONG_IDENTITY", id="upper case"),
        pytest.param(person(issuer="", valid=PAST), "EXPIRED", id="expired"),
        pytest.param(person(issuer="", usage=authority.SERVER_AUTH), "UNTRUSTED_CHAIN", id="not for code"),
    ],
)
def test_a_certificate_of_ones_own_authority_is_asked_for_as_the_gate_asks(
    world: World, by: authority.Signer, code: str
) -> None:
    name, what = world.image()
    world.attach(name, what, (by, None))
    root = {"pki": {"roots": ["ca.pem"], "email": PERSON}}
    assert world.judge(name, root, {"anyOf": ["release"]}) == (code, code)
