"""What the gate's own loader says of a policy: it compiles the conditions of attestations, which Python does not."""

from __future__ import annotations

import re
import subprocess
import tempfile
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
    with tempfile.TemporaryDirectory(prefix="countersign-") as folder:
        path = Path(folder) / "policy.json"
        path.write_bytes(gate.render(policy))
        argv = [str(program), "check-policy", str(path)]
        try:
            done = subprocess.run(argv, capture_output=True, timeout=_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as err:
            raise InfrastructureError(f"{PROGRAM} did not load the policy: {err}", where=str(program)) from err
    said = done.stderr.decode(errors="replace").strip()
    if done.returncode == _REFUSED:
        raise _invalid(policy, said.partition("POLICY_INVALID: ")[2].removeprefix(f"{path}: ") or said)
    if done.returncode:
        raise InfrastructureError(said or f"{PROGRAM} ended with {done.returncode}", where=str(program))


def _invalid(policy: Policy, said: str) -> PolicyInvalid:
    source = document.read(policy.path)
    found = _CONDITION.match(said)
    scope = policy.scopes.get(found["scope"]) if found else None
    if not found or not scope:
        return PolicyInvalid([source.problem((), said)])
    key: Key = ("scopes", scope.written, "attestations", int(found["number"]), "where")
    asked = scope.rule.attestations[int(found["number"])].where
    return PolicyInvalid([source.problem(key, f"{found['what']}, of {asked!r}; expected a condition in CEL")])
