from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fake_registry import FakeRegistry, serving


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    """A registry on loopback that does what the test says."""
    with serving() as server:
        yield server
