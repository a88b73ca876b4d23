"""Set-up refuses a node whose gate.json asks for a signed policy, before it changes anything."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from countersign.console.errors import InfrastructureError
from countersign.enforcement.gate import Gate, steps
from countersign.enforcement.layout import SYSTEM
from countersign.enforcement.policy_keys import asked_for
from countersign.nodes.host import HOST


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
