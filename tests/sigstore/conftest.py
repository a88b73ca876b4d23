"""The private Sigstore of ``signing.stack``, run for these tests, beside cosign and two registries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from countersign.console.config import Settings
from countersign.console.steps import run_steps
from countersign.tools.resolver import install
from signing.stack import place, services
from signing.stack.place import Stack
from tests.interop.conftest import cosign, lab, settings
from tests.sigstore.signatures import Scene

__all__ = ["cosign", "lab", "settings"]


@pytest.fixture(scope="session")
def stack(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Run a private Sigstore until the tests end; a second start finds nothing to do."""
    here = replace(settings, state=tmp_path_factory.mktemp("private"))
    found = place.find(here)
    programs = install(services.TOOLS, settings)
    try:
        run_steps(services.steps(found, programs))
        made = place.require(here)
        again = run_steps(services.steps(made, programs))
        assert not [step.name for step in again if step.changed]
        yield made
    finally:
        services.stop(found)


@pytest.fixture
def scene(stack: Stack, lab, cosign, settings: Settings, tmp_path) -> Scene:
    """Return a fresh image, and all that signs and reads it."""
    return Scene.fresh(stack, lab, cosign, settings, tmp_path)
