"""Gatekeeper that is down: its own webhook would let every pod in."""

from __future__ import annotations

import pytest

from countersign.console.errors import InfrastructureError
from tests.gatekeeper.conftest import Place, pod


def test_without_gatekeeper_no_pod_is_admitted(place: Place) -> None:
    with place.gatekeeper(), place.provider():
        assert place.cluster.settled(pod(place, "signed"), allow=True).allow
    with pytest.raises(InfrastructureError, match=r'webhook "countersign\.gatekeeper\.sh"'):
        place.cluster.review(pod(place, "signed"))
