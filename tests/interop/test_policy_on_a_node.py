"""A real gate takes a policy that the real cosign or ``policy.apply`` signed, and its verdicts follow at once."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from countersign.console.config import Settings
from countersign.console.errors import InfrastructureError
from countersign.enforcement import installing, layout, policy
from countersign.enforcement.gate_client import request
from countersign.enforcement.layout import Layout
from countersign.enforcement.policy import Policy
from countersign.keys import pair as keys
from countersign.nodes.host import HOST, HostNode
from countersign.tools.resolver import tool
from lab.demo.keys import KeyPair
from rollout.apply import apply
from rollout.diff import compare
from rollout.places import Target
from signing import revocation_list
from tests.interop.conftest import ATTACHMENT, PASSWORD, Cosign

pytestmark = pytest.mark.interop
IMAGE = "registry.example/app:v1"


@pytest.fixture(scope="module")
def signer() -> keys.PrivateKey:
    return keys.generate()


@pytest.fixture
def where(tmp_path: Path, settings: Settings, signer: keys.PrivateKey) -> Iterator[Layout]:
    """A node with a gate that serves, and takes signed policies only."""
    made = layout.host(tmp_path)
    for folder in (made.bin, made.etc, made.lib, made.run, made.log):
        Path(folder).mkdir(parents=True)
    Path(made.gate).symlink_to(tool("countersign-gate", settings))
    config = {
        "policy": made.policy,
        "policyKeys": [signer.public.pem],
        "socket": made.gate_socket,
        "log": made.verdicts,
        "evidence": {"dir": made.evidence},
        "containerd": {"address": f"{made.run}/none.sock"},
    }
    Path(made.gate_config).write_text(json.dumps(config))
    with (tmp_path / "gate.log").open("wb") as log:
        gate = subprocess.Popen([made.gate, "serve", "--config", made.gate_config], stderr=log)
    try:
        for _ in range(500):
            if Path(made.gate_socket).exists():
                break
            time.sleep(0.01)
        yield made
    finally:
        gate.terminate()
        gate.wait(20)


def source(folder: Path, rule: str) -> Path:
    if not (folder / "keys").exists():
        KeyPair(folder / "keys").apply()
    path = folder / "policy.yaml"
    path.write_text(
        "apiVersion: countersign/v1\ndefault: reject\nroots: {k: {publicKey: {files: [keys/cosign.pub]}}}\n"
        f"scopes: {{registry.example/other: {{anyOf: [k]}}{rule}}}\n"
    )
    return path


def test_verdicts_follow_an_applied_policy(tmp_path: Path, where: Layout, signer: keys.PrivateKey) -> None:
    node = HostNode()

    def target(rule: str) -> Target:
        return Target(node, Policy(HOST, where, source(tmp_path, rule), ()), tmp_path / "laid.json")

    def code() -> str:
        return str(request(node, where, "verify", {"name": IMAGE})["code"])

    assert code() == "POLICY_INVALID"
    with pytest.raises(InfrastructureError, match=r"no signature by a key of policyKeys.*no node was changed"):
        apply([target("")], None, plan=False)
    (first,) = apply([target("")], signer, plan=False)
    assert (code(), first.serial) == ("NO_SCOPE", 1)
    (second,) = apply([target(", registry.example/app: reject")], signer, plan=False)
    assert (code(), second.serial) == ("REJECTED_BY_SCOPE", 2)
    assert second.seconds < 5, "it takes a tenth of a second"
    assert compare(target(", registry.example/app: reject")).same
    (again,) = apply([target(", registry.example/app: reject")], signer, plan=False)
    assert (again.changed, again.serial) == (False, 2)
    assert [str(each) for each in compare(target("")).differences] == ["- scope registry.example/app: reject"]


def test_a_gate_takes_what_set_up_signs(tmp_path: Path, where: Layout, signer: keys.PrivateKey) -> None:
    node = HostNode()
    wanted = Policy(HOST, where, source(tmp_path, ", registry.example/app: reject"), (), key=lambda: signer)
    for by, code in ((replace(wanted, key=keys.generate), "POLICY_INVALID"), (wanted, "REJECTED_BY_SCOPE")):
        by.apply()
        for _ in range(300):
            found = str(request(node, where, "verify", {"name": IMAGE})["code"])
            if found == code:
                break
            time.sleep(0.01)
        assert found == code
    assert not wanted.needed()
    assert replace(wanted, key=keys.generate).needed()


def test_a_gate_takes_what_cosign_signed(
    tmp_path: Path, where: Layout, signer: keys.PrivateKey, cosign: Cosign
) -> None:
    key = tmp_path / "policy.key"
    key.write_text(signer.sealed(PASSWORD.encode()))
    wanted = Policy(HOST, where, source(tmp_path, ""), (), serial=1)
    blob, signature = tmp_path / "policy.json", tmp_path / "policy.json.sig"
    blob.write_bytes(wanted.rendered())
    how = ("--yes", "--key", str(key), "--output-signature", str(signature))
    done = cosign.run("sign-blob", *how, *ATTACHMENT, str(blob))
    assert done.returncode == 0, done.stderr
    with pytest.raises(InfrastructureError, match="no signature by a key of policyKeys"):
        installing.check(replace(wanted, serial=2), signature.read_bytes())
    installing.install(wanted, tmp_path / "laid.json", signature.read_bytes())
    assert policy.there(HostNode(), where).highest == 1


def test_an_older_policy_is_refused_by_a_real_gate(tmp_path: Path, where: Layout, signer: keys.PrivateKey) -> None:
    from base64 import b64encode

    wanted = Policy(HOST, where, source(tmp_path, ""), ())
    for serial, taken in ((5, True), (4, False), (6, True)):
        numbered = replace(wanted, serial=serial)
        signature = b64encode(signer.sign(numbered.rendered()))
        if taken:
            assert installing.install(numbered, tmp_path / "laid.json", signature).serial == serial
            continue
        with pytest.raises(InfrastructureError, match=r"POLICY_INVALID: serial 4, and serial 5 was in force"):
            installing.install(numbered, tmp_path / "laid.json", signature)


def test_an_older_list_of_what_is_revoked_is_refused_by_a_real_gate(
    tmp_path: Path, where: Layout, signer: keys.PrivateKey
) -> None:
    security, path = keys.generate(), tmp_path / "acme.json"
    (tmp_path / "security.pub").write_text(security.public.pem)

    def target() -> Target:
        written = source(tmp_path, "")
        written.write_text(f"{written.read_text()}revoked: {{lists: [{{file: acme.json, keys: [security.pub]}}]}}\n")
        return Target(HostNode(), Policy(HOST, where, written, ()), tmp_path / "laid.json")

    def listed(digest: str) -> dict[Path, bytes]:
        revocation_list.write(path, revocation_list.amended(path, {"digests": [f"sha256:{digest * 64}"]}), security)
        return {each: each.read_bytes() for each in (path, tmp_path / "acme.json.sig")}

    first = listed("1")
    assert apply([target()], signer, plan=False)[0].serial == 1
    second = listed("2")
    assert apply([target()], signer, plan=False)[0].serial == 2
    for each, content in first.items():
        each.write_bytes(content)
    with pytest.raises(InfrastructureError, match=r'POLICY_INVALID: list "acme" of what is revoked has serial 1'):
        apply([target()], signer, plan=False)
    for each, content in second.items():
        each.write_bytes(content)
    assert compare(target()).same
