"""For unit tests: a gate's program that need not be built."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from countersign.enforcement.node_files import Written


@pytest.fixture
def echoing_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the gate's program give back what it is told of a node; what it really gives, its own tests hold."""

    def written(_program: Path, place: Mapping[str, Any]) -> Written:
        told = {key: value for key, value in place.items() if value and key != "baseSpecs"}
        specs = {path: f"{spec} with the hook".encode() for path, spec in place["baseSpecs"].items()}
        files = {f"{place['layout']['etc']}/gate.json": json.dumps(told).encode(), **specs}
        return Written(files, {"echo": place["layout"]})

    monkeypatch.setattr("countersign.enforcement.node_files.written", written)
