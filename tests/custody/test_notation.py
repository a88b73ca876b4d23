"""Notary Project signatures with keys of every kind, wherever they are kept: the gate takes them alike."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from invoke.context import MockContext
from invoke.exceptions import Exit

from countersign.console.config import Settings
from countersign.keys import source
from countersign.keys.issue import pem
from countersign.oci import referrers
from countersign.oci.reference import parse
from countersign.oci.registry import Registry
from countersign.policy import gate, load
from lab.trials import notaries
from signing import chain, commands
from signing.verify import Access, Verdict, by_policy, program, verify
from tests.custody.conftest import PIN, ROOT_TOKEN, TOKEN, Hsm, Vault
from tests.images import push_image

KINDS: Mapping[str, tuple[Callable[[], chain.Private], str]] = {
    "p256": (lambda: ec.generate_private_key(ec.SECP256R1()), "ecdsa-p256"),
    "p384": (lambda: ec.generate_private_key(ec.SECP384R1()), "ecdsa-p384"),
    "p521": (lambda: ec.generate_private_key(ec.SECP521R1()), "ecdsa-p521"),
    "rsa2048": (lambda: rsa.generate_private_key(65537, 2048), "rsa-2048"),
    "rsa3072": (lambda: rsa.generate_private_key(65537, 3072), "rsa-3072"),
    "rsa4096": (lambda: rsa.generate_private_key(65537, 4096), "rsa-4096"),
}
"""How a key of a kind is made here, and what the vault calls it."""
OURS, THEIRS = notaries.make(), notaries.make()


def in_a_file(_: pytest.FixtureRequest, folder: Path, kind: str) -> tuple[str, chain.Private]:
    key = KINDS[kind][0]()
    path = folder / "file.key"
    path.touch(0o600)
    path.write_bytes(_clear(key))
    return str(path), key


def in_a_token(request: pytest.FixtureRequest, folder: Path, kind: str) -> tuple[str, chain.Private]:
    hsm: Hsm = request.getfixturevalue("hsm")
    softhsm: Path = request.getfixturevalue("softhsm")
    key, label = KINDS[kind][0](), f"notary-{kind}"
    (folder / "key.pem").write_bytes(_clear(key))
    util = [str(softhsm / "usr/bin/softhsm2-util"), "--module", str(hsm.module), "--import", str(folder / "key.pem")]
    words = ["--token", TOKEN, "--label", label, "--id", f"{0x10 + [*KINDS].index(kind):02x}", "--pin", PIN]
    subprocess.run([*util, *words], check=True, capture_output=True, timeout=60)
    (folder / "pin").write_text(PIN)
    return hsm.uri(label, folder / "pin"), key


def in_a_vault(request: pytest.FixtureRequest, _: Path, kind: str) -> tuple[str, chain.Private]:
    vault: Vault = request.getfixturevalue("vault")
    patch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
    patch.setenv("BAO_ADDR", vault.address)
    patch.setenv("BAO_TOKEN", ROOT_TOKEN)
    vault.client().secrets.transit.create_key(f"notary-{kind}", key_type=KINDS[kind][1])  # type: ignore[attr-defined]
    uri = f"openbao://notary-{kind}"
    kept = source.for_notation(uri, None, {"BAO_ADDR": vault.address, "BAO_TOKEN": ROOT_TOKEN})
    assert kept is not None
    return uri, kept


PLACES = {"file": in_a_file, "pkcs11": in_a_token, "openbao": in_a_vault}


def _clear(key: chain.Private) -> bytes:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption())


def says(settings: Settings, folder: Path, name: str, authority: notaries.NotaryAuthority) -> Verdict:
    (folder / "ca.pem").write_text(authority.pem)
    root = f'{{notation: {{roots: [ca.pem], identities: ["{notaries.identity("release")}"]}}}}'
    path = folder / "policy.yaml"
    path.write_text(f"apiVersion: countersign/v1\nroots: {{n: {root}}}\nscopes: {{'{name}': {{anyOf: [n]}}}}\n")
    path.with_suffix(".json").write_bytes(gate.render(load.load(path)))
    return verify(program(settings), f"{name}:v1", by_policy(path.with_suffix(".json")), Access())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", PLACES)
def test_the_gate_takes_it_wherever_the_key_is_kept(
    request: pytest.FixtureRequest,
    settings: Settings,
    netloc: str,
    context: MockContext,
    tmp_path: Path,
    place: str,
    kind: str,
) -> None:
    uri, key = PLACES[place](request, tmp_path, kind)
    (tmp_path / "chain.crt").write_text(pem(*OURS.issue(key=key).chain))
    ref = parse(f"{netloc}/notary/{place}-{kind}:v1")
    push_image(Registry(), ref.name, "v1", ref.name)
    commands.sign(context, [str(ref)], key=uri, certificate=str(tmp_path / "chain.crt"), format="notation")
    verdict = says(settings, tmp_path, ref.name, OURS)
    assert (verdict["code"], verdict["format"]) == ("OK", "notation"), verdict["message"]
    assert says(settings, tmp_path, ref.name, THEIRS)["code"] == "UNTRUSTED_CHAIN"


def test_a_key_in_a_token_wants_its_own_certificates(
    netloc: str, context: MockContext, tmp_path: Path, hsm: Hsm
) -> None:
    (tmp_path / "pin").write_text(PIN)
    ref = parse(f"{netloc}/notary/of-another:v1")
    target = push_image(Registry(), ref.name, "v1", ref.name)
    (tmp_path / "chain.crt").write_text(pem(*OURS.issue().chain))
    for certificate, saying in (("", "--certificate FILE"), (str(tmp_path / "chain.crt"), "is of another key")):
        key = hsm.uri("ec", tmp_path / "pin")
        with pytest.raises(Exit, match=saying):
            commands.sign(context, [str(ref)], key=key, certificate=certificate, format="notation")
    assert not referrers.listing(Registry(), ref.name, target.digest)
