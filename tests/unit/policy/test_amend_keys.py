"""Keys come into a policy's text and go, and all else stays as it was written."""

from __future__ import annotations

import pytest
import yaml

from countersign.console.errors import UsageError
from countersign.policy import amend

FLOW = "roots: {a: {publicKey: {files: [x.pub, old.pub]}}, b: {publicKey: {files: [b.pub]}}}  # ours\nscopes: {}\n"
BLOCK = """roots:
  a:
    publicKey:
      files:
      - old.pub  # since May
      # the other one
      - x.pub
  corp: {pki: {roots: [old.pub]}}
scopes: {}
"""
LAST = "scopes: {}\nroots:\n  a:\n    publicKey:\n      files:\n        - x.pub\n        - old.pub"
SHARED = "roots:\n  a: {publicKey: {files: &keys [old.pub, x.pub]}}\n  b: {publicKey: {files: *keys}}\n"


def files(text: str, root: str = "a") -> list[str]:
    found: list[str] = yaml.safe_load(text)["roots"][root]["publicKey"]["files"]
    return found


@pytest.mark.parametrize("text", [FLOW, BLOCK, LAST, SHARED])
@pytest.mark.parametrize("new", ["keys/new.pub", "new key: #1.pub"])
def test_a_key_comes_beside_another_and_takes_its_place(text: str, new: str) -> None:
    both = amend.beside(text, "old.pub".__eq__, new.__eq__, new)
    assert sorted(files(both)) == sorted(["old.pub", "x.pub", new])
    assert files(both).index(new) == files(both).index("old.pub") + 1
    assert amend.beside(both, "old.pub".__eq__, new.__eq__, new) == both  # once is enough
    after = amend.without(both, "old.pub".__eq__, "policy.yaml")
    assert sorted(files(after)) == sorted(["x.pub", new])
    assert amend.without(after, new.__eq__, "policy.yaml").replace("  # since May", "") == amend.without(
        text, "old.pub".__eq__, "policy.yaml"
    )
    for kept in ("# ours", "# the other one", "roots: [old.pub]", "[b.pub]", "scopes: {}"):
        assert (kept in after) == (kept in text)


def test_the_last_key_of_a_root_is_not_taken_out() -> None:
    with pytest.raises(UsageError, match="no key but the old one"):
        amend.without(FLOW, "b.pub".__eq__, "policy.yaml")
    assert files(amend.without(FLOW, "x.pub".__eq__, "policy.yaml")) == ["old.pub"]


def test_what_has_no_such_key_stays_as_it_is() -> None:
    for text in (FLOW, BLOCK, "scopes: {}\n"):
        assert amend.beside(text, "y.pub".__eq__, "z.pub".__eq__, "z.pub") == text
        assert amend.without(text, "y.pub".__eq__, "policy.yaml") == text


@pytest.mark.parametrize(
    "text",
    [
        FLOW,
        BLOCK,
        SHARED,
        FLOW.replace("{files: [x", "{since: {old.pub: 2026-01-01, x.pub: 2026-02-02}, files: [x"),
        BLOCK + "# end\n",
        "roots:\n  a:\n    publicKey:\n      since:\n        old.pub: 2026-01-01\n      files: [old.pub, x.pub]\n",
        "roots: {a: {publicKey: {files: [old.pub, x.pub], since: {}}}}\n",
    ],
)
def test_the_day_of_a_key_comes_and_goes_with_it(text: str) -> None:
    def days(text: str) -> dict[str, str]:
        found = yaml.safe_load(text)["roots"]["a"]["publicKey"].get("since") or {}
        return {file: str(day) for file, day in found.items()}

    both = amend.beside(text, "old.pub".__eq__, "new.pub".__eq__, "new.pub", "2026-11-29")
    assert days(both) == days(text) | {"new.pub": "2026-11-29"}
    after = amend.without(both, "old.pub".__eq__, "policy.yaml")
    assert "old.pub" not in files(after)
    assert days(after) == {file: day for file, day in days(both).items() if file != "old.pub"}
    assert days(amend.without(text, "old.pub".__eq__, "policy.yaml")).get("old.pub") is None
