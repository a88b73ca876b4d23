"""For unit tests: a gate's program that need not be built."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from countersign.console.config import Settings
from countersign.enforcement.node_files import Written
from countersign.policy import gate
from countersign.policy.crio import Rendered
from countersign.policy.model import Policy


@pytest.fixture
def echoing_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the gate's program give back what it is told; what it really gives, its own tests hold."""

    def written(_program: Path, place: Mapping[str, Any]) -> Written:
        told = {key: value for key, value in place.items() if value and key != "baseSpecs"}
        specs = {path: f"{spec} with the hook".encode() for path, spec in place["baseSpecs"].items()}
        files = {f"{place['layout']['etc']}/gate.json": json.dumps(told).encode(), **specs}
        crio = place.get("crio", {})
        read = {f"{place['layout']['etc']}/crio/hooks.d/countersign.json": b"the hook"} if crio else {}
        if crio.get("told"):
            read[crio["told"]["dropIn"]] = crio["told"]["sandbox"].encode()
        return Written(files, {"echo": place["layout"]}, read)

    def rendered(policy: Policy, _settings: Settings, *, pins: Sequence[str] = (), **more: Any) -> Rendered:
        document = {"policy": json.loads(gate.render(policy, pins)), **more}
        return Rendered(json.dumps(document).encode(), b"registries")

    monkeypatch.setattr("countersign.enforcement.node_files.written", written)
    monkeypatch.setattr("countersign.policy.crio.render", rendered)
