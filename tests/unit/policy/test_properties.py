"""Whatever bytes a policy or a configuration is made of: it is read, or refused in one line."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from hypothesis import given
from hypothesis import strategies as st

from countersign.console import sources
from countersign.console.errors import UsageError
from countersign.oci import reference
from countersign.policy import scopes
from countersign.policy.explain import explain
from countersign.policy.load import load
from countersign.policy.notes import notes
from countersign.policy.problems import PolicyInvalid

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
WORDS = st.sampled_from(
    ["apiVersion", "default", "roots", "scopes", "pinned", "revoked", "publicKey", "files", "anyOf", "allOf", "keys"]
)
NAMES = WORDS | st.sampled_from(
    ["countersign/v1", "reject", "accept", "r.example/a", "docker.io/", "a:443/b", "sha256:0"]
)
VALUES = st.recursive(
    LEAVES | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)
HEADED = st.dictionaries(WORDS, VALUES).map(lambda more: {"apiVersion": "countersign/v1", "default": "reject"} | more)


Found = TypeVar("Found")


def outcome(work: Callable[[], Found], refusal: type[UsageError]) -> tuple[Found | None, str]:
    """Return what came of it, or the text of the one error that it may raise."""
    try:
        return work(), ""
    except refusal as error:
        return None, str(error)


def read(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "policy.yaml")
        path.write_bytes(content)
        found, refused = outcome(lambda: load(path), PolicyInvalid)
        if found is None:
            assert "\n" not in refused
            assert refused.startswith(str(path))
            return
        assert all(isinstance(note, str) for note in notes(found))
        for name in found.scopes:
            explain(found, f"{name}/x/y")


@given(st.binary(max_size=300))
def test_a_policy_of_any_bytes(content: bytes) -> None:
    read(content)


@given(VALUES | HEADED)
def test_a_policy_of_any_values(value: Any) -> None:
    read(yaml.safe_dump(value, allow_unicode=True).encode("utf-8", "surrogatepass"))
    read(json.dumps(value).encode())


@given(VALUES | st.dictionaries(st.sampled_from(["kind", "node", "registry", "state", "sudo"]), VALUES))
def test_a_configuration_of_any_values(value: Any) -> None:
    _, refused = outcome(lambda: sources.check(value, "file"), UsageError)
    if refused:
        assert refused.startswith("file")
    else:
        assert {str(key) for key in value} <= {*sources.known(), *sources.known()[""]}


@given(st.dictionaries(st.text(max_size=20).map(lambda name: f"INVOKE_{name}"), st.text(max_size=5), max_size=3))
def test_variables_of_any_name(environment: dict[str, str]) -> None:
    found, refused = outcome(lambda: sources.from_variables(environment), UsageError)
    if found is None:
        assert "nothing is called INVOKE_" in refused
    else:
        assert bool(found) == any(name != sources.CONFIG for name in environment)


@given(st.text(max_size=60) | st.from_regex(r"[a-zA-Z0-9.:/@_\[\]-]{1,80}", fullmatch=True))
def test_a_reference_of_any_text_is_refused_or_stays_what_it_is(text: str) -> None:
    try:
        found = reference.parse(text)
    except reference.BadReference:
        return
    assert reference.parse(str(found)) == found
    assert (found.tag is None) != (found.digest is None)


@given(st.text(max_size=60) | st.from_regex(r"[a-zA-Z0-9.:/_-]{1,60}", fullmatch=True))
def test_a_scope_of_any_text_is_refused_or_covers_what_lies_below(text: str) -> None:
    try:
        name = scopes.normalise(text)
    except scopes.BadScope:
        return
    assert name in scopes.parents(reference.parse(f"{name}/x/y").name)
