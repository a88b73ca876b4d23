"""The longest scope wins, on true boundaries; the gate is held to the same vectors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from countersign.oci import reference
from countersign.policy.match import match
from countersign.policy.model import DEFAULT, Policy, Rule, Scope
from countersign.policy.scopes import BadScope, normalise

VECTORS = json.loads((Path(__file__).resolve().parents[3] / "shared" / "vectors" / "scopes.json").read_text())


def policy_of(scopes: list[str]) -> Policy:
    found = {name: Scope(name, name, Rule("anyOf", (name,)), 1) for name in scopes}
    return Policy(Path("policy.yaml"), {}, found)


@pytest.mark.parametrize("case", VECTORS["match"], ids=lambda case: f"{case['repository']} in {case['scopes']}")
def test_the_scope_that_applies(case: dict[str, Any]) -> None:
    scope, rule = match(policy_of(case["scopes"]), case["repository"])
    assert scope == case["scope"]
    assert rule == (Rule("anyOf", (scope,)) if scope else DEFAULT)


@pytest.mark.parametrize("case", [case for case in VECTORS["normalise"] if "invalid" not in case], ids=str)
def test_a_scope_is_normalised(case: dict[str, str]) -> None:
    assert normalise(case["scope"]) == case["normalised"]


@pytest.mark.parametrize("case", [case for case in VECTORS["normalise"] if "invalid" in case], ids=str)
def test_what_is_no_scope_is_refused(case: dict[str, str]) -> None:
    with pytest.raises(BadScope) as caught:
        normalise(case["scope"])
    assert caught.value.code == "POLICY_INVALID"


_word = st.sampled_from(["a", "b", "ab", "a-b", "library"])
_registry = st.sampled_from(["docker.io", "r.example", "r.example:5000", "r.example:50001", "localhost"])
_name = st.builds(lambda registry, path: "/".join([registry, *path]), _registry, st.lists(_word, max_size=4))


@given(st.sets(_name, max_size=8), _name)
def test_matching_is_the_longest_prefix_that_ends_at_a_slash(scopes: set[str], repository: str) -> None:
    covering = [one for one in scopes if f"{repository}/".startswith(f"{one}/")]
    assert match(policy_of(sorted(scopes)), repository)[0] == max(covering, key=len, default=None)


@given(st.text(alphabet="abA09.:/-_*@ ", max_size=20))
def test_what_lies_below_a_normal_scope_is_matched_by_it(text: str) -> None:
    try:
        scope = normalise(text)
    except BadScope:
        return
    below = reference.parse(f"{scope}/x/y").name
    assert match(policy_of([scope]), below)[0] == scope
    assert match(policy_of([scope]), f"{scope}x/y/z")[0] is None


@given(_name)
def test_a_normal_scope_written_as_a_namespace_stays(name: str) -> None:
    assert normalise(f"{name}/") == name
