"""A signature of the private Sigstore by another identity, issuer or authority is refused, with its code."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from signing.stack import services
from tests.sigstore.signatures import (
    MAIL,
    SIGNERS,
    WORKFLOW,
    Expected,
    Scene,
    cosign_reads,
    gate_reads,
    python_reads,
)

pytestmark = pytest.mark.interop


def another_root(scene: Scene) -> Expected:
    """Ask for a signature by another private Sigstore, at the same addresses."""
    files = services.make(scene.stack, dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc))
    (content,) = (each.content for each in files if each.path.endswith("trusted_root.json"))
    path = scene.folder / "another.json"
    assert isinstance(content, bytes)
    path.write_bytes(content)
    return replace(scene.expects(MAIL), root=path)


def only(scene: Scene, change: Callable[[dict[str, list[object]], dict[str, list[object]]], None]) -> Expected:
    """Ask for a signature by this private Sigstore, of which a part is another's."""
    other = json.loads(another_root(scene).root.read_text())
    root = json.loads(scene.stack.trusted_root.read_text())
    change(root, other)
    path = scene.folder / "mixed.json"
    path.write_text(json.dumps(root))
    return replace(scene.expects(MAIL), root=path)


def another(part: str) -> Callable[[Scene], Expected]:
    return lambda scene: only(scene, lambda root, other: root.__setitem__(part, other[part]))


WRONG: dict[str, tuple[Callable[[Scene], Expected], str]] = {
    "right": (lambda scene: scene.expects(MAIL), ""),
    "identity": (lambda scene: replace(scene.expects(MAIL), subject="other@acme.example"), "WRONG_IDENTITY"),
    "workflow": (lambda scene: replace(scene.expects(MAIL), subject=WORKFLOW), "WRONG_IDENTITY"),
    "issuer": (lambda scene: replace(scene.expects(MAIL), issuer=scene.stack.workflow_issuer), "WRONG_IDENTITY"),
    "trusted root": (another_root, "UNTRUSTED_CHAIN"),
    "authority": (another("certificateAuthorities"), "UNTRUSTED_CHAIN"),
    "log of certificates": (another("ctlogs"), "NO_TRUSTED_TIME"),
    "log": (another("tlogs"), "NO_TRUSTED_TIME"),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("signer", SIGNERS)
def test_one_thing_that_differs_refuses(scene: Scene, signer: str, wrong: str) -> None:
    SIGNERS[signer](scene, MAIL)
    expect, code = WRONG[wrong]
    expected = expect(scene)
    assert gate_reads(scene, expected) == code
    assert bool(cosign_reads(scene, expected)) is bool(code)
    if "bundle" in signer:
        assert bool(python_reads(scene, expected)) is bool(code)
