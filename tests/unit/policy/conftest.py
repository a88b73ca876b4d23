from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from countersign.keys import pair as keys
from countersign.policy.load import load
from countersign.policy.model import Policy

KEYS = {name: keys.generate().public for name in ("team", "other")}
HEAD = "apiVersion: countersign/v1\ndefault: reject\n"

Write = Callable[[str], Path]
Load = Callable[[str], Policy]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a policy after its two first lines, with team.pub and other.pub beside it; return its path."""
    for name, key in KEYS.items():
        (tmp_path / f"{name}.pub").write_text(key.pem)

    def written(text: str) -> Path:
        path = tmp_path / "policy.yaml"
        path.write_text(HEAD + text)
        return path

    return written


@pytest.fixture
def loaded(write: Write) -> Load:
    """Write and load a policy."""
    return lambda text: load(write(text))
