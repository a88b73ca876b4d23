"""What hangs on an image, by whom, and what each root of a policy says of it: asked of the gate's engine."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from countersign.console.errors import InfrastructureError, UsageError
from countersign.console.output import Branch
from countersign.policy import canary
from signing.verify import Access, by_policy, failure, run

_VERSION = "countersign.inspected/v1"
_POLICY_LIMIT = 32 << 20  # bytes
_OUTPUT_LIMIT = 64 << 20
_SHORT = 12  # characters of an ID

Inspected = Mapping[str, Any]


def rendered(policy: Path) -> bytes:
    """Return a policy as the gate reads it: policy.yaml, or one that is rendered already.

    Raises:
        UsageError: it cannot be used.
    """
    from countersign.policy import gate
    from countersign.policy.load import load

    try:
        with policy.open("rb") as file:
            content = file.read(_POLICY_LIMIT + 1)
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=str(policy)) from error
    if content.lstrip().startswith(b"{") and b'"version"' in content and len(content) <= _POLICY_LIMIT:
        return content
    return gate.render(load(policy))


def inspect(program: Path, image: str, policy: bytes | None, access: Access) -> Inspected:
    """Have the gate's engine look at all that hangs on an image; nothing is decided.

    Args:
        policy: a rendered policy, whose roots are asked; None for none.

    Returns:
        the program's document (``countersign.inspected/v1``).

    Raises:
        UsageError: the name or the policy cannot be used.
        InfrastructureError: there was no answer.
    """
    with tempfile.TemporaryDirectory(prefix="countersign-") as folder:
        words = ["inspect"]
        if policy is not None:
            file = Path(folder) / "policy.json"
            file.write_bytes(policy)
            words += by_policy(file)
        done = run(program, words, image, access)
    if done.returncode or len(done.stdout) > _OUTPUT_LIMIT:
        raise failure(done, image)
    try:
        found = json.loads(done.stdout)
    except ValueError as error:
        raise InfrastructureError("no JSON came from the gate's program", where=image) from error
    if not isinstance(found, dict) or found.get("version") != _VERSION:
        raise InfrastructureError("another form came from the gate's program", where=image, expected=_VERSION)
    for each in found["digests"]:
        for one in each["signatures"]:  # that root is there for the proof of enforcement, and takes nothing
            one["roots"] = [root for root in one["roots"] if root["root"] != canary.ROOT]
    return found


def drawn(found: Inspected) -> list[Branch]:
    """Return what was found as lines of a tree: digests, what hangs on each, what each root says of that."""
    return [_digest(each) for each in found["digests"]]


def _digest(each: Mapping[str, Any]) -> Branch:
    title = " ".join(filter(None, (each["kind"], each.get("platform"), each["digest"])))
    below: list[Branch] = [_signature(one) for one in each["signatures"]]
    below += [(f"! {problem}", ()) for problem in each["problems"]]
    return title, below or [("nothing hangs on it", ())]


def _signature(one: Mapping[str, Any]) -> Branch:
    said = [_who(one["signer"]), *map(_when, one["times"])]
    if end := one["signer"].get("notAfter"):
        said.append(f"certificate until {end}")
    if one.get("problem"):
        said.append(f"! cannot be read: {one['problem']}")
    return _what(one), [(line, ()) for line in [*filter(None, said), *map(_opinion, one["roots"])]]


def _what(one: Mapping[str, Any]) -> str:
    kind = f"attestation {one.get('predicateType', '')}".strip() if one["attestation"] else "signature"
    named = f" for {one['repository']}" if one.get("repository") else ""
    return f"{one['format']} {one['id'][:_SHORT]}: {kind}{named}"


def _who(signer: Mapping[str, Any]) -> str:
    if names := signer.get("names"):
        issuer = f" ({signer['issuer']})" if signer.get("issuer") else ""
        return f"says to be by {' and '.join(names)}{issuer}"
    return f"says to be by the key {signer['key']}" if signer.get("key") else ""


def _when(time: Mapping[str, Any]) -> str:
    index = f" {time['logIndex']}" if "logIndex" in time else ""
    what = f"log entry{index}" if time["source"] == "log" else "timestamp"
    return f"{what} of {time['at']}" if time.get("at") else what


def _opinion(root: Mapping[str, Any]) -> str:
    if root["ok"]:
        return f"✓ {root['root']}" + (f", until {root['expires']}" if root.get("expires") else "")
    return f"✗ {root['root']}: {root['code']}: {root.get('found', '')}"
