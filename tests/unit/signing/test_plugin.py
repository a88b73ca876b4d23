"""Notation's signing plugins: ours through our own host, and hostile ones that get one line and push nothing."""

from __future__ import annotations

import json
import os
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from countersign.console.config import ROOT
from countersign.console.errors import CountersignError, MissingError
from countersign.oci.registry import Registry
from lab.trials import notaries
from lab.trials.notaries import NotarySigner
from signing import chain, commands, notary, plugin, stored
from signing.notary import Options
from tests.fake_registry import FakeRegistry
from tests.images import push_image
from tests.unit.signing.test_notation import context_of, refused

OURS = notaries.make()
PROGRAM = ROOT / "signing" / "notation-countersign"
SIGN = """
import sys
from pathlib import Path
from signing import chain, notary
key = notary._private(Path(sys.argv[1]).read_bytes(), "")
signature = chain.sign(key, sys.stdin.buffer.read())
"""
AS_DER = """
from cryptography.hazmat.primitives.asymmetric import utils
r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
sys.stdout.buffer.write(utils.encode_dss_signature(r, s))
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def install(name: str, text: str) -> Path:
    """Put a plugin where notation has it."""
    folder = Path(os.environ["XDG_CONFIG_HOME"]) / "notation" / "plugins" / name
    folder.mkdir(parents=True)
    program = folder / f"notation-{name}"
    program.write_text(text)
    program.chmod(0o755)
    return program


def command(folder: Path, ending: str) -> list[str]:
    """Return a command that signs, and does with the signature what ``ending`` says."""
    script = folder / "sign.py"
    script.write_text(SIGN + ending)
    return [sys.executable, str(script), str(folder / "release.key"), "{digest}"]


def signers(tmp_path: Path, signer: NotarySigner, **entry: Any) -> None:
    signer.write(tmp_path, "release")
    installed = install("countersign", f'#!/bin/sh\nexec {sys.executable} {PROGRAM} "$@"\n').parent
    found = {"chain": str(tmp_path / "release.crt"), **entry}
    if "command" not in found:
        found["command"] = command(tmp_path, "sys.stdout.buffer.write(signature)")
    (installed / "signers.json").write_text(json.dumps({"key-1": found}))


def ours(seconds: int = 30) -> plugin.Plugin:
    return plugin.Plugin("countersign", plugin.find("countersign"), "key-1", seconds=seconds)


def only(capability: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a plugin say that it can do nothing but that."""
    asked = plugin._call

    def less(one: plugin.Plugin, what: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        answer = asked(one, what, request)
        return {**answer, "capabilities": [capability]} if what == "get-plugin-metadata" else answer

    monkeypatch.setattr(plugin, "_call", less)


@pytest.mark.parametrize("capability", ["SIGNATURE_GENERATOR.RAW", "SIGNATURE_GENERATOR.ENVELOPE"])
@pytest.mark.parametrize("kind", ["p256", "p521", "rsa"])
def test_our_plugin_signs(
    fake: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capability: str, kind: str
) -> None:
    key: chain.Private = rsa.generate_private_key(65537, 2048)
    if kind != "rsa":
        key = ec.generate_private_key(ec.SECP256R1() if kind == "p256" else ec.SECP521R1())
    signers(tmp_path, OURS.issue(key=key))
    only(capability, monkeypatch)
    target = push_image(Registry(), fake.name(), "v1")
    made = plugin.signer(ours(), Options()).make(target)
    assert notary.checked(made, target, "test").chain == chain.as_der(chain.load(tmp_path / "release.crt"))


@pytest.mark.parametrize(
    "ending",
    [
        "import base64; print(base64.b64encode(signature).decode())",
        AS_DER,
    ],
    ids=["base64", "DER"],
)
def test_what_a_command_may_answer(fake: FakeRegistry, tmp_path: Path, ending: str) -> None:
    signers(tmp_path, OURS.issue(), command=command(tmp_path, ending))
    target = push_image(Registry(), fake.name(), "v1")
    assert plugin.signer(ours(), Options()).make(target)


def test_a_signer_may_answer_through_a_file(fake: FakeRegistry, tmp_path: Path) -> None:
    ending = "Path(sys.argv[1]).with_name(sys.argv[2] + '.sig').write_bytes(signature)"
    signers(tmp_path, OURS.issue(), command=command(tmp_path, ending), answer=f"{tmp_path}/{{digest}}.sig")
    target = push_image(Registry(), fake.name(), "v1")
    assert plugin.signer(ours(), Options()).make(target)


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        ({"command": ["/nowhere/sign"]}, "No such file"),
        ({"command": ["/bin/sh", "-c", "echo the token is locked >&2; exit 3"]}, "the token is locked"),
        ({"command": ["/bin/echo", "rubbish"]}, "is not a signature by CN=release"),
        ({"command": ["/bin/true"], "answer": "/nowhere/{digest}", "timeout": 1}, "no answer in /nowhere/"),
        ({"command": ["/bin/sleep", "60"], "timeout": 1}, "took over 1 s"),
        ({"chain": "/nowhere.pem"}, "no certificates in PEM"),
        ({"comand": []}, "unknown ['comand']"),
    ],
    ids=["gone", "locked", "rubbish", "silent", "hangs", "no chain", "mistyped"],
)
def test_what_our_plugin_says_of_a_bad_signer(
    fake: FakeRegistry, tmp_path: Path, entry: dict[str, Any], found: str
) -> None:
    signers(tmp_path, OURS.issue(), **entry)
    name = fake.name()
    target = push_image(Registry(), name, "v1")
    context = context_of(tmp_path, plugin="countersign", plugin_key="key-1")
    assert found in refused(4, commands.sign, context, [f"{name}:v1"], format="notation")
    assert stored.listed(Registry(), name, target.digest, "notation") == []


def test_a_plugin_signs_through_the_task_and_once(
    fake: FakeRegistry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    signers(tmp_path, OURS.issue())
    push_image(Registry(), fake.name(), "v1")
    context = context_of(tmp_path, plugin="countersign", plugin_key="key-1", expiry="30d")
    for outcome in ("added", "present"):
        commands.sign(context, [f"{fake.name()}:v1"], format="notation", json=True)
        document = json.loads(capsys.readouterr().out)
        assert document["signer"] == "plugin countersign, key key-1"
        assert document["images"][0]["signed"][0][outcome] == ["notation"]


HOSTILE = """#!{python}
import base64, json, sys, time
answers = {{
    "get-plugin-metadata": {{"name": "evil", "version": "1", "supportedContractVersions": ["1.0"],
        "capabilities": ["SIGNATURE_GENERATOR.RAW"]}},
    "describe-key": {{"keyId": "key-1", "keySpec": "EC-256"}},
    "generate-signature": {{"keyId": "key-1", "signature": "AAAA", "signingAlgorithm": "ECDSA-SHA-256",
        "certificateChain": {chain}}},
}}
command = sys.argv[1]
{change}
print(json.dumps(answers[command]))
"""


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("time.sleep(60)", "took over 1 s"),
        ("import os\nif os.fork() == 0: time.sleep(60)\nos._exit(7)", "exit code 7"),
        ("print('rubbish')", "a JSON object and nothing else"),
        ("print('[' * 100000); sys.exit()", "a JSON object and nothing else"),
        ("sys.stdout.write('x' * (2 << 20))", "more than 1048576 bytes"),
        ("sys.exit('out of paper')", "out of paper"),
        ("answers['get-plugin-metadata']['name'] = 'good'", "name is 'good'"),
        ("answers['get-plugin-metadata']['supportedContractVersions'] = ['2.0']", "supportedContractVersions"),
        ("answers['get-plugin-metadata']['capabilities'] = []", "capabilities"),
        ("answers['describe-key']['keyId'] = 'key-2'", "keyId is 'key-2'"),
        ("answers['describe-key']['keySpec'] = 'EC-1'", "keySpec is 'EC-1'"),
        ("answers['generate-signature']['keyId'] = 'key-2'", "keyId is 'key-2'"),
        ("answers['generate-signature']['signingAlgorithm'] = 'none'", "signingAlgorithm is 'none'"),
        ("answers['generate-signature']['certificateChain'] = []", "certificateChain"),
        ("answers['generate-signature']['certificateChain'] = ['AAAA']", "cannot be read"),
        ("answers['generate-signature']['certificateChain'].pop()", "the chain ends with"),
        ("answers['generate-signature']['signature'] = 7", "signature is '7'"),
        ("pass", "does not hold under its own certificate"),
    ],
)
def test_a_hostile_plugin_gets_one_line_and_pushes_nothing(
    fake: FakeRegistry, tmp_path: Path, change: str, found: str
) -> None:
    import base64

    certificates = json.dumps([base64.b64encode(each).decode() for each in chain.as_der(OURS.issue().chain)])
    install("evil", HOSTILE.format(python=sys.executable, chain=certificates, change=textwrap.dedent(change)))
    name = fake.name()
    target = push_image(Registry(), name, "v1")
    context = context_of(tmp_path, plugin="evil", plugin_key="key-1", plugin_timeout="1" if "60" in change else "20")
    with pytest.raises(Exception) as caught:  # noqa: PT011  its line is looked at
        commands.sign(context, [f"{name}:v1"], format="notation")
    message = str(getattr(caught.value, "message", caught.value))
    assert found in message
    assert "\n" not in message
    assert stored.listed(Registry(), name, target.digest, "notation") == []


def test_a_plugin_that_is_not_there(fake: FakeRegistry, tmp_path: Path) -> None:
    push_image(Registry(), fake.name(), "v1")
    with pytest.raises(MissingError, match="there is no program"):
        plugin.find("hsm")
    context = context_of(tmp_path, plugin="hsm", plugin_key="1")
    assert "notation-hsm" in refused(3, commands.sign, context, [f"{fake.name()}:v1"], format="notation")
    assert issubclass(plugin.BadPlugin, CountersignError)
