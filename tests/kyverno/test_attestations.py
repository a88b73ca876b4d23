"""What a scope asks for beside keys, judged by Kyverno's engine: never laxer than the gate."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from countersign.oci.descriptor import Descriptor
from countersign.policy import kyverno
from countersign.policy.load import load
from signing.attest import attest
from signing.sign import sign
from signing.signer import ByKey
from signing.stored import Format
from tests.kyverno.conftest import ALLOWED, World

SLSA = "https://slsa.dev/provenance/v1"
SPDX = "https://spdx.dev/Document"
RIGHT = {"workflow": "release.yml", "level": 3}
WHERE = "predicate.workflow == 'release.yml' && predicate.level >= 3 && subject.all(s, s.digest.sha256 != '')"
ASKED = [{"type": SLSA, "by": ["team"], "where": WHERE}]

Prepare = Callable[[World, str, Descriptor], Any]


def by(who: str, kind: str = SLSA, stated: dict[str, Any] = RIGHT) -> Prepare:
    return lambda world, name, what: attest(world.client, name, what, ByKey(world.keys[who]), kind, stated)


def judged(world: World, rule: dict[str, Any], formats: list[Format], prepared: list[Prepare]) -> tuple[str, str]:
    """Return what Kyverno says to a new image, and the gate's code."""
    name, what = world.image()
    if formats:
        sign(world.client, name, what, world.keys["team"], formats)
    for prepare in prepared:
        prepare(world, name, what)
    policy = world.policy(name, json.dumps(rule))
    said = world.kyverno(kyverno.render(load(policy)), f"{name}:v1")
    return said, world.gate(policy, f"{name}:v1")


@pytest.mark.parametrize(
    ("prepared", "refused"),
    [
        pytest.param([by("team")], False, id="right"),
        pytest.param([by("team", stated={"workflow": "test.yml", "level": 3}), by("team")], False, id="bad and right"),
        pytest.param([], True, id="missing"),
        pytest.param([by("other")], True, id="other signer"),
        pytest.param([by("team", SPDX)], True, id="other type"),
        pytest.param([by("team", stated={"workflow": "test.yml", "level": 3})], True, id="condition false"),
        pytest.param([by("team", stated={"workflow": "release.yml", "level": 2})], True, id="too low"),
    ],
)
def test_an_attestation_is_asked_for_as_the_gate_asks(world: World, prepared: list[Prepare], refused: bool) -> None:
    said, code = judged(world, {"anyOf": ["team"], "attestations": ASKED}, ["bundle", "attachment"], prepared)
    assert code == ("NO_ATTESTATION" if refused else ALLOWED)
    assert said.startswith("countersign: no attestation that ") if refused else said == ALLOWED, said


def test_a_condition_that_fails_refuses(world: World) -> None:
    rule = {"anyOf": ["team"], "attestations": ASKED}
    said, code = judged(world, rule, ["bundle"], [by("team", stated={"workflow": "release.yml"})])
    assert (said, code) == ("failed to evaluate policy: no such key: level", "NO_ATTESTATION")


def test_a_condition_knows_the_image(world: World) -> None:
    for where, allowed in (("image.repository", True), ("image.repository + 'x'", False)):
        name, what = world.image()
        sign(world.client, name, what, world.keys["team"], ["bundle"])
        by("team", stated={"of": name, "digest": what.digest})(world, name, what)
        asked = [
            {"type": SLSA, "by": ["team"], "where": f"predicate.of == {where} && predicate.digest == image.digest"}
        ]
        policy = world.policy(name, json.dumps({"anyOf": ["team"], "attestations": asked}))
        assert (world.kyverno(kyverno.render(load(policy)), f"{name}:v1") == ALLOWED) == allowed
        assert world.gate(policy, f"{name}:v1") == (ALLOWED if allowed else "NO_ATTESTATION")


@pytest.mark.parametrize(
    ("prepared", "code"), [([by("team")], ALLOWED), ([by("other")], "UNSIGNED"), ([by("team", SPDX)], "UNSIGNED")]
)
def test_an_attestation_stands_for_a_signature_where_the_scope_says_so(
    world: World, prepared: list[Prepare], code: str
) -> None:
    said, found = judged(world, {"anyOf": ["team"], "signature": SLSA}, [], prepared)
    assert (said == ALLOWED, found == ALLOWED) == (code == ALLOWED, code == ALLOWED), (said, found)


@pytest.mark.parametrize("there", ["bundle", "attachment"])
@pytest.mark.parametrize("asked", ["bundle", "attachment"])
def test_a_format_is_asked_for_as_the_gate_asks(world: World, there: Format, asked: Format) -> None:
    said, code = judged(world, {"anyOf": ["team"], "formats": [asked]}, [there], [])
    assert (said == ALLOWED, code == ALLOWED) == (there == asked, there == asked), (said, code)
