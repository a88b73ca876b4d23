"""A policy's text is amended where it must be, and stays as it was everywhere else."""

from __future__ import annotations

import pytest
import yaml

from countersign.console.errors import UsageError
from countersign.policy import amend

ONE, TWO = "sha256:" + "1" * 64, "sha256:" + "2" * 64
HEAD = "# ours\napiVersion: countersign/v1  # stays\n"


@pytest.mark.parametrize(
    "revoked",
    [
        "",
        "revoked: {}\n",
        "revoked: {keys: [], certificates: [], digests: []}\n",
        "revoked: {digests: [x, y]}  # why\n",
        f"revoked: {{keys: [{TWO}]}}\n",
        f"revoked: {{keys: [{TWO},]}}\n",
        f"revoked:\n  keys:\n    - {TWO}  # stolen\n  digests: []\n",
        f"revoked:\n  keys:\n  - {TWO}\n",
        "revoked:\n  digests: [x]\nscopes: {}\n",
        f'revoked:\n  keys: [\n    "{TWO}"\n  ]\n',
    ],
)
def test_one_more_is_added_and_nothing_else_changes(revoked: str) -> None:
    before = HEAD + revoked
    after = amend.revoke(before, {"keys": [ONE]}, "policy.yaml")
    was, now = yaml.safe_load(before), yaml.safe_load(after)
    keys = now["revoked"].pop("keys")
    assert sorted(keys) == sorted({ONE, *((was.get("revoked") or {}).get("keys") or [])})
    (was.get("revoked") or {}).pop("keys", None)
    assert now | {"revoked": now["revoked"] or None} == was | {"revoked": was.get("revoked") or None}
    for comment in ("# ours", "# stays", "# why", "# stolen"):
        assert (comment in after) == (comment in before)
    assert amend.revoke(after, {"keys": [ONE]}, "policy.yaml") == after


@pytest.mark.parametrize("revoked", ["revoked: [x]\n", "revoked: {keys: x}\n"])
def test_what_is_no_list_is_left_to_people(revoked: str) -> None:
    with pytest.raises(UsageError, match="by hand"):
        amend.revoke(HEAD + revoked, {"keys": [ONE]}, "policy.yaml")
