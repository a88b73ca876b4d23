"""Set-up signs policies as it was told, and else refuses a node whose gate.json asks for that."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from dataclasses import replace
from pathlib import Path

import pytest

from countersign.console.config import Settings
from countersign.console.errors import InfrastructureError, UsageError
from countersign.enforcement.gate import Gate, files, steps
from countersign.enforcement.layout import SYSTEM
from countersign.enforcement.policy import Policy
from countersign.enforcement.policy_keys import asked_for, signing
from countersign.keys.pair import PrivateKey, generate, parse_public
from countersign.nodes.host import HOST

pytestmark = pytest.mark.usefixtures("echoing_gate")


@pytest.mark.parametrize(
    ("content", "asks"),
    [
        (b'{"policyKeys": ["-----BEGIN PUBLIC KEY-----"]}', True),
        (b'{"policykeys": ["-----BEGIN PUBLIC KEY-----"]}', True),
        (b'{"log": "/\xff", "policyKeys": ["k"]}', True),
        (b'{"policyKeys": []}', True),
        (b'{"policyKeys": null}', False),
        (b'{"policy": "/etc/countersign/policy.json"}', False),
        (b'["policyKeys"]', False),
        (b"policyKeys", False),
        (b"", False),
    ],
)
def test_what_asks_for_a_signed_policy(content: bytes, asks: bool) -> None:
    assert asked_for(content) is asks


@pytest.mark.parametrize("signed", [False, True])
def test_the_first_step_refuses_what_would_drop_the_keys(tmp_path: Path, signed: bool) -> None:
    layout = replace(SYSTEM, etc=str(tmp_path))
    first, *_ = steps(Gate(HOST, layout, tmp_path / "gate", tmp_path / "hook", b"{}", "/run/c.sock"))
    assert first.needed() is False
    document = {"policy": layout.policy, **({"policyKeys": ["k"]} if signed else {})}
    Path(layout.gate_config).write_text(json.dumps(document))
    if not signed:
        assert first.needed() is False
        return
    with pytest.raises(InfrastructureError, match=r"gate\.json has policyKeys.*policy\.apply --key"):
        first.needed()


@pytest.fixture
def key(tmp_path: Path) -> tuple[Path, PrivateKey]:
    """A key for policies: its file, with the password beside it, and itself."""
    made, path = generate(), tmp_path / "policy.key"
    path.write_text(made.sealed(b"secret"))
    path.with_suffix(".password").write_text("secret")
    return path, made


def test_the_key_that_signs_is_the_one_that_may_unless_others_are_named(
    tmp_path: Path, key: tuple[Path, PrivateKey]
) -> None:
    path, made = key
    assert signing(Settings()) is None
    alone = signing(Settings(policy_key=str(path)))
    assert alone is not None
    assert (alone.keys, alone.key().public) == ((made.public.pem,), made.public)
    older, own = tmp_path / "older.pub", tmp_path / "own.pub"
    older.write_text(generate().public.pem)
    own.write_text(made.public.pem)
    both = signing(Settings(policy_key=str(path), policy_keys=(older, own)))
    assert both is not None
    assert both.keys == (older.read_text(), own.read_text())
    with pytest.raises(UsageError, match=r"policy\.key: is none of policy_keys"):
        signing(Settings(policy_key=str(path), policy_keys=(older,)))


def test_a_gate_that_asks_for_signatures_is_told_by_whom_and_the_check_for_unsigned_set_ups_is_off(
    tmp_path: Path, key: tuple[Path, PrivateKey]
) -> None:
    layout = replace(SYSTEM, etc=str(tmp_path / "etc"))
    gate = Gate(
        HOST, layout, tmp_path / "gate", tmp_path / "hook", b"{}", "/run/c.sock", policy_keys=(key[1].public.pem,)
    )
    [config] = [each for each in files(gate) if each.path == layout.gate_config]
    assert isinstance(config.content, bytes)
    [named] = json.loads(config.content)["policyKeys"]
    assert parse_public(named.encode(), "gate.json") == key[1].public
    assert asked_for(config.content)
    assert len(steps(gate)) == len(steps(replace(gate, policy_keys=()))) - 1


def test_a_policy_is_signed_with_it_and_another_signature_is_replaced(
    tmp_path: Path, key: tuple[Path, PrivateKey]
) -> None:
    layout, made = replace(SYSTEM, etc=str(tmp_path / "etc"), lib=str(tmp_path)), key[1]
    Path(layout.etc).mkdir()
    source = tmp_path / "policy.yaml"
    source.write_text("apiVersion: countersign/v1\ndefault: reject\nscopes: {registry.example/app: reject}\n")
    policy, signature = Path(layout.policy), Path(layout.policy_signature)
    unsigned, wanted = (Policy(HOST, layout, source, (), key=one) for one in (None, lambda: made))
    unsigned.apply()
    assert not signature.exists()
    assert (unsigned.needed(), wanted.needed()) == (False, True)
    wanted.apply()
    assert not wanted.needed()
    [line] = signature.read_bytes().splitlines()
    assert made.public.verifies(b64decode(line), policy.read_bytes())
    for other in (b"", b"nonsense\n", b64encode(generate().sign(policy.read_bytes()))):
        signature.write_bytes(other)
        assert wanted.needed()
    assert [each.path for each in wanted.laid_out()] == [layout.policy_signature, layout.policy]
    assert [each.path for each in wanted.as_laid().laid_out()] == [layout.policy], "a signature is never the same twice"
