"""Heavy parts take turns in CI, chosen by the commit, so that each run keeps within its time."""

from __future__ import annotations

import subprocess

from countersign.console.config import ROOT
from countersign.console.errors import UsageError

TURNS = (
    ("kind", "rollout", "gatekeeper"),
    ("vagrant", "fleet", "chaos", "alerts"),
    ("fuzz", "guards"),
    ("release", "sigstore"),
    ("crio-cluster", "custody", "kyverno"),
)
"""Which parts run together; one of these groups is on turn at a commit. All else always runs."""


def commit() -> int:
    """Return a number that the checked-out commit gives; 0 outside of a git repository."""
    words = ["git", "rev-parse", "--short=8", "HEAD"]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    return int(ended.stdout.strip()[:8], 16) if ended.returncode == 0 else 0


def off_turn(turn: str, number: int) -> set[str]:
    """Return the parts that are not on turn.

    Args:
        turn: ``all`` (nothing is off), ``commit`` (the commit chooses), or names with commas between them.
        number: what the commit gives.

    Raises:
        UsageError: a name of no part that takes turns.
    """
    everything = {name for group in TURNS for name in group}
    if turn == "all":
        return set()
    if turn == "commit":
        return everything - set(TURNS[number % len(TURNS)])
    on = {name.strip() for name in turn.split(",")}
    if on - everything:
        expected = f"all, commit, or some of {', '.join(sorted(everything))}"
        raise UsageError(f"got {turn!r}", where="tests.turn", expected=expected)
    return everything - on
