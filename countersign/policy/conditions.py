"""What the gate's program says of a policy: its loader compiles conditions of attestations, which Python does not."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from countersign.console.errors import InfrastructureError
from countersign.policy import document, gate
from countersign.policy.model import Policy
from countersign.policy.problems import Key, PolicyInvalid

PROGRAM = "countersign-gate"
_SECONDS = 30
_REFUSED = 1
_CONDITION = re.compile(
    r'scopes\."(?P<scope>[^"]+)"\.attestations\[(?P<number>\d+)\]\.where: (?P<what>.*?); expected an expression'
)


def any_in(policy: Policy) -> bool:
    """Return whether a policy has a condition."""
    return any(each.where for scope in policy.scopes.values() for each in scope.rule.attestations)


def check(policy: Policy, program: Path) -> None:
    """Have the gate load a policy, as a node would.

    Raises:
        PolicyInvalid: it does not; a condition is named with its line and column.
        InfrastructureError: the program did not answer.
    """
    said(policy, program, ("check-policy",))


def said(policy: Policy, program: Path, words: Sequence[str], pins: Sequence[str] = ()) -> bytes:
    """Return what the gate prints of a policy; it raises as `check` does.

    Args:
        policy: the policy.
        program: the gate's, on this machine.
        words: subcommand and options.
        pins: ``repository@sha256:…`` beside those of the policy.
    """
    try:
        return _printed(program, tuple(words), gate.render(policy, pins))
    except (OSError, subprocess.TimeoutExpired) as err:
        raise InfrastructureError(f"{PROGRAM} did not load the policy: {err}", where=str(program)) from err
    except subprocess.CalledProcessError as err:
        error = err.stderr.decode(errors="replace").strip()
        if err.returncode == _REFUSED:
            raise _invalid(policy, error.partition("POLICY_INVALID: ")[2] or error) from None
        raise InfrastructureError(error or f"{PROGRAM} ended with {err.returncode}", where=str(program)) from None


@lru_cache(maxsize=16)
def _printed(program: Path, words: tuple[str, ...], document: bytes) -> bytes:
    argv = [str(program), *words, "-"]
    return subprocess.run(argv, input=document, capture_output=True, timeout=_SECONDS, check=True).stdout


def _invalid(policy: Policy, said: str) -> PolicyInvalid:
    source = document.read(policy.path)
    found = _CONDITION.match(said)
    scope = policy.scopes.get(found["scope"]) if found else None
    if not found or not scope:
        return PolicyInvalid([source.problem((), said)])
    key: Key = ("scopes", scope.written, "attestations", int(found["number"]), "where")
    asked = scope.rule.attestations[int(found["number"])].where
    return PolicyInvalid([source.problem(key, f"{found['what']}, of {asked!r}; expected a condition in CEL")])
