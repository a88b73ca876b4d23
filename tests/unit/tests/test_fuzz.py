"""Every fuzz target is found, and seconds are a number."""

from __future__ import annotations

import pytest

from countersign.console.config import Settings
from countersign.console.errors import UsageError
from tests import fuzz


def test_the_targets_of_the_gate_are_found() -> None:
    found = {(target.folder.name, target.name) for target in fuzz.targets()}
    assert {("countersign-hook", "FuzzJudge"), ("policy", "FuzzParse"), ("bind", "FuzzParseState")} <= found
    assert len(found) == len(list(fuzz.targets()))


@pytest.mark.parametrize("seconds", ["0", "-1", "x", ""])
def test_seconds_are_a_number(seconds: str) -> None:
    with pytest.raises(UsageError, match=r"tests\.fuzz"):
        fuzz.check(Settings(), seconds)
