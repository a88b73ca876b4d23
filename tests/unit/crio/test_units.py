"""What taking CRI-O off again leaves on a machine."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from crio.paths import INSTALLED
from crio.units import Restored

OWN = {"registry.example": {"auth": "bWU6eA=="}, "127.0.0.1:5000": {"auth": "bWU6eA=="}}


@pytest.mark.parametrize(
    ("urls", "left"),
    [({}, OWN), ({"x.test": "http://127.0.0.1:6000"}, {"registry.example": OWN["registry.example"]})],
)
def test_a_users_own_logins_stay_where_there_was_no_demo(node, urls: Mapping[str, str], left) -> None:
    node.files[INSTALLED.auth] = json.dumps({"auths": OWN}).encode()
    restored = Restored(node, ("x.test",), urls)
    assert restored.needed() is bool(urls)
    restored.apply()
    assert json.loads(node.files[INSTALLED.auth])["auths"] == left
