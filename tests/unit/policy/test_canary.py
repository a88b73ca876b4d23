"""The reserved scope: nobody can sign for it, nobody's policy can open it, and the gate serves what it names."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from countersign.policy import canary, gate
from countersign.policy.model import Policy
from countersign.policy.problems import PolicyInvalid

Load = Callable[[str], Policy]

GATE = Path(__file__).resolve().parents[3] / "gate/internal"
GO = [GATE / "policy/canary.go", GATE / "prove/canary.go"]
OTHER = "127.67.83.71:872"
ROOTS = "roots: {%s: {publicKey: {files: [team.pub]}}}\n"


def test_the_key_is_made_of_a_hash_and_not_of_a_private_key() -> None:
    x = hashlib.sha256(canary.SEED.encode()).digest()
    point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x02" + x)
    made = point.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert made.decode() == canary.KEY


def test_the_gate_serves_what_is_reserved() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in GO)
    names = dict(re.findall(r'(\w+)\s+= (?:Registry \+ )?"([^"]+)"', text))
    assert names["CanaryRegistry"] == canary.REGISTRY
    assert names["CanaryRoot"] == canary.ROOT
    assert canary.REGISTRY + names["Repository"] == canary.REPOSITORY


def test_every_policy_of_the_gate_reserves_it(loaded: Load) -> None:
    document = json.loads(gate.render(loaded("")))
    assert document["scopes"] == {canary.REGISTRY: {"anyOf": [canary.ROOT]}}
    assert document["roots"] == {canary.ROOT: {"publicKey": {"keys": [canary.KEY]}}}


@pytest.mark.parametrize(
    "text",
    [
        "scopes: {%s: accept}\n",
        "scopes: {%s/countersign/canary: accept}\n",
        f"pinned: [%s/countersign/canary@sha256:{'a' * 64}]\n",
    ],
)
def test_no_policy_says_anything_of_it(loaded: Load, text: str) -> None:
    with pytest.raises(PolicyInvalid, match="is reserved for the canary"):
        loaded(text % canary.REGISTRY)
    loaded(text % OTHER)


def test_no_root_takes_its_name(loaded: Load) -> None:
    with pytest.raises(PolicyInvalid, match="is reserved for the canary"):
        loaded(ROOTS % canary.ROOT)
    loaded(ROOTS % f"{canary.ROOT}-2")
