"""An image that the policy allows gets through, or the result says that this is not proven, and why."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from countersign.cri.errors import CriError
from countersign.cri.model import Image
from countersign.enforcement.allowing import TRIES, candidates, prove
from countersign.policy.model import Policy, Rule, Scope

DIGEST = f"sha256:{'1' * 64}"
RULES = {
    "registry.example/signed": Rule("anyOf", ("team-key",)),
    "registry.example/signed/loose": Rule("accept"),
    "registry.example/rejected": Rule("reject"),
}
POLICY = Policy(Path("policy.yaml"), {}, {name: Scope(name, name, rule, 1) for name, rule in RULES.items()})


def image(*names: str) -> Image:
    return Image(id=DIGEST, tags=("registry.example/signed/app:v1",), digests=names, size=1, pinned=False)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("registry.example/signed/app", True),
        ("registry.example/signed/loose/app", False),
        ("registry.example/rejected/app", False),
        ("registry.example/other", False),
    ],
)
def test_what_is_tried_is_named_by_digest_in_a_scope_that_asks_for_signatures(name, expected):
    by_digest = f"{name}@{DIGEST}"
    assert candidates([image(by_digest)], POLICY) == ([by_digest] if expected else [])


def client(allowed: str, tried: list[str]) -> Any:
    def pull(reference: str, *_: object, **__: object) -> None:
        tried.append(reference)
        if reference != allowed:
            raise CriError("PullImage", "UNKNOWN", "countersign: refused it: UNSIGNED: …")

    return SimpleNamespace(pull=pull)


def test_one_that_gets_through_is_enough():
    tried: list[str] = []
    assert prove(client("b", tried), ["a", "b", "c"], lambda _: None) == ("b", "")
    assert tried == ["a", "b"]


@pytest.mark.parametrize(("images", "told"), [([], "is there"), (["a"], "UNSIGNED"), (list("abcdef"), "UNSIGNED")])
def test_without_one_the_result_says_why_and_not_all_are_tried(images, told):
    tried: list[str] = []
    proven, why = prove(client("", tried), images, lambda _: None)
    assert proven == ""
    assert told in why
    assert len(tried) == min(len(images), TRIES)
