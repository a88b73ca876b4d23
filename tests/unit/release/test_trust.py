"""Whom to trust, in cosign's words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from release.trust import ByIdentity

ISSUER = "https://token.actions.githubusercontent.com"
WORKFLOW = "https://github.com/acme/app/.github/workflows/release.yml"


def options(subject: str) -> list[str]:
    return ByIdentity(ISSUER, subject, Path("trusted_root.json")).cosign()


def test_an_exact_subject_is_given_as_it_is() -> None:
    assert options(f"{WORKFLOW}@refs/tags/v1.2.3")[:2] == ["--certificate-identity", f"{WORKFLOW}@refs/tags/v1.2.3"]


@pytest.mark.parametrize(
    ("glob", "name", "good"),
    [
        (f"{WORKFLOW}@refs/tags/v*", f"{WORKFLOW}@refs/tags/v1.2.3", True),
        (f"{WORKFLOW}@refs/tags/v*", f"{WORKFLOW}@refs/tags/v1/2", False),
        (f"{WORKFLOW}@refs/**", f"{WORKFLOW}@refs/tags/v1/2", True),
        (f"{WORKFLOW}@refs/tags/v*", f"{WORKFLOW}@refs/heads/v1", False),
        (f"{WORKFLOW}@refs/tags/v*", f"{WORKFLOW.replace('.yml', 'xyml')}@refs/tags/v1", False),
        (f"{WORKFLOW}@refs/tags/v*", f"https://evil.example/?{WORKFLOW}@refs/tags/v1", False),
        ("*@acme.example", "release@acme.example", True),
        ("*@acme.example", "release@acme.example.evil.example", False),
    ],
)
def test_a_glob_is_an_anchored_pattern(glob: str, name: str, good: bool) -> None:
    option, pattern, *rest = options(glob)
    assert option == "--certificate-identity-regexp"
    assert rest == ["--certificate-oidc-issuer", ISSUER, "--trusted-root", "trusted_root.json"]
    assert bool(re.search(pattern, name)) == good  # cosign searches too
