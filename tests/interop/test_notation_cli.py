"""The notation CLI verifies what we sign, and the gate what it signs: with keys, our plugin, and both registries."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from countersign.console.config import ROOT, Settings
from countersign.console.errors import CountersignError
from countersign.oci.descriptor import Descriptor
from countersign.oci.reference import Reference, parse
from countersign.policy import gate, load
from countersign.policy import notation as renderer
from countersign.tools.resolver import tool
from lab.trials import notaries
from lab.trials.notaries import NotaryAuthority, NotarySigner
from signing import chain, notary, sign, stored
from signing.notary import Options
from signing.verify import Verdict, by_policy, program, verify
from tests.images import push_image
from tests.interop.conftest import LOGIN, Lab

pytestmark = pytest.mark.interop
PLUGIN = ROOT / "signing" / "notation-countersign"
KEYS: Mapping[str, Callable[[], chain.Private]] = {
    "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "p521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "rsa2048": lambda: rsa.generate_private_key(65537, 2048),
    "rsa3072": lambda: rsa.generate_private_key(65537, 3072),
    "rsa4096": lambda: rsa.generate_private_key(65537, 4096),
}
SIGN = """
import sys
from pathlib import Path
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from signing import chain
sys.stdout.buffer.write(chain.sign(load_pem_private_key(Path(sys.argv[1]).read_bytes(), None), sys.stdin.buffer.read()))
"""


@pytest.fixture(scope="session")
def notation(settings: Settings) -> Path:
    """The notation CLI; where it can't be had, that is said."""
    try:
        return tool("notation", settings)
    except CountersignError as err:
        pytest.skip(f"no notation CLI: {err}")


@pytest.fixture(scope="session")
def authority() -> NotaryAuthority:
    return notaries.make()


@pytest.fixture
def image(lab: Lab) -> tuple[Reference, Descriptor]:
    """A fresh image in a repository of its own."""
    ref = parse(f"{lab.netloc}/interop/{uuid.uuid4().hex}:v1")
    target = push_image(lab.client, ref.name, "v1", ref.name)
    return parse(f"{ref.name}@{target.digest}"), target


def policy(folder: Path, ref: Reference, authority: NotaryAuthority, who: str = "release") -> Path:
    """Write a policy that asks for a Notary Project signature of that image."""
    (folder / "ca.pem").write_text(authority.pem)
    path = folder / "policy.yaml"
    root = f'{{notation: {{roots: [ca.pem], identities: ["{notaries.identity(who)}"]}}}}'
    path.write_text(
        f"apiVersion: countersign/v1\nroots: {{notary: {root}}}\nscopes: {{'{ref.name}': {{anyOf: [notary]}}}}\n"
    )
    return path


def says(settings: Settings, lab: Lab, ref: Reference, path: Path) -> Verdict:
    """Ask the gate's engine."""
    rendered = path.with_suffix(".json")
    rendered.write_bytes(gate.render(load.load(path)))
    return verify(program(settings), str(ref), by_policy(rendered), lab.access)


def run(
    notation: Path, lab: Lab, home: Path, *arguments: str, more: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run notation with a configuration folder of its own."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "XDG_CONFIG_HOME": str(home), **(more or {})}
    flags = ["--insecure-registry"]
    if "cacert" in "".join(lab.flags):
        environment["SSL_CERT_FILE"] = lab.flags[1]
        flags = ["--username", LOGIN[0], "--password", LOGIN[1]]
    argv = [str(notation), *arguments[:1], *flags, *arguments[1:]]
    return subprocess.run(argv, env=environment, cwd=home, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("kind", KEYS)
def test_notation_verifies_what_we_sign(
    notation: Path,
    settings: Settings,
    lab: Lab,
    image: tuple[Reference, Descriptor],
    authority: NotaryAuthority,
    tmp_path: Path,
    kind: str,
) -> None:
    ref, target = image
    signer = authority.issue(key=KEYS[kind]())
    path = policy(tmp_path, ref, authority)
    renderer.write(tmp_path / "notation", load.load(path))
    assert run(notation, lab, tmp_path, "verify", str(ref)).returncode != 0
    _sign(lab, ref, target, signer, tmp_path)
    done = run(notation, lab, tmp_path, "verify", str(ref))
    assert done.returncode == 0, done.stderr
    assert says(settings, lab, ref, path)["code"] == "OK"
    # The same with another identity: both refuse.
    other = policy(tmp_path, ref, authority, "somebody")
    renderer.write(tmp_path / "notation", load.load(other))
    assert run(notation, lab, tmp_path, "verify", str(ref)).returncode != 0
    assert says(settings, lab, ref, other)["code"] == "WRONG_IDENTITY"


@pytest.mark.parametrize("envelope", ["jws", "cose"])
@pytest.mark.parametrize("kind", ["p256", "rsa2048"])
def test_the_gate_verifies_what_notation_signs_with_our_plugin(
    notation: Path,
    settings: Settings,
    lab: Lab,
    image: tuple[Reference, Descriptor],
    authority: NotaryAuthority,
    tmp_path: Path,
    kind: str,
    envelope: str,
) -> None:
    ref, _ = image
    path = policy(tmp_path, ref, authority)
    assert says(settings, lab, ref, path)["code"] == "UNSIGNED"
    _install(tmp_path, authority.issue(key=KEYS[kind]()))
    words = ("sign", "--signature-format", envelope, "--plugin", "countersign", "--id", "key-1", str(ref))
    done = run(notation, lab, tmp_path, *words, more={"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr
    verdict = says(settings, lab, ref, path)
    assert (verdict["code"], verdict["format"]) == ("OK", "notation")
    assert says(settings, lab, ref, policy(tmp_path, ref, notaries.make()))["code"] == "UNTRUSTED_CHAIN"


def _sign(lab: Lab, ref: Reference, target: Descriptor, signer: NotarySigner, folder: Path) -> None:
    key = signer.write(folder, "release")
    certificates = chain.load(key.with_suffix(".crt"))
    ours = notary.by_key(key.read_bytes(), str(key), certificates, key, Options())
    envelope = sign.prepare(lab.client, ref.name, target, ours)
    sign.sign(lab.client, ref.name, target, None, ["notation"], envelope)
    assert len(stored.listed(lab.client, ref.name, target.digest, "notation")) == 1


def _install(home: Path, signer: NotarySigner) -> None:
    """Put our plugin where notation has it, with a command that signs."""
    key, folder = signer.write(home, "release"), home / "notation" / "plugins" / "countersign"
    folder.mkdir(parents=True)
    program = folder / "notation-countersign"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {PLUGIN} "$@"\n')
    program.chmod(0o755)
    (home / "sign.py").write_text(SIGN)
    entry = {"command": [sys.executable, str(home / "sign.py"), str(key)], "chain": str(key.with_suffix(".crt"))}
    (folder / "signers.json").write_text(json.dumps({"key-1": entry}))
