"""After a key was stolen: what rests on it is found, and what is known to be ours is signed again.

What the gate's engine says is all that is believed: which signatures are by a key, and what the amended policy allows.
The times that signatures bring are only what they say of themselves: nothing is signed again because of one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from countersign.console.errors import UsageError
from countersign.keys.pair import PublicKey
from countersign.oci.reference import Reference
from countersign.oci.registry import Registry
from countersign.policy import gate
from countersign.policy.model import Policy, Root
from signing import sign
from signing.signer import Signer

State = Literal["signed again", "to be signed", "refused", "allowed", "not the old key's", "left"]
Said = Literal["since", "before", "no time"]
OLD, NEW = "old", "new"


@dataclass(frozen=True)
class Recovered:
    """One image, and what became of it.

    Attributes:
        image: its name by digest.
        state: what became of it; "refused" and "allowed" are what the amended policy says of what nobody named.
        code: the amended policy's verdict; empty where it was not asked.
        says: when the old key's signatures say to have been made, against the date of the theft.
        times: those times.
        attestations: how many attestations by the old key hang on it.
    """

    image: str
    state: State
    code: str = ""
    says: Said = "no time"
    times: Sequence[str] = ()
    attestations: int = 0


@dataclass(frozen=True)
class Engine:
    """The gate's engine.

    Attributes:
        inspect: what hangs on an image, by the roots "old" and "new" (``signing.inspection.inspect``).
        verify: the verdict on an image under the amended policy.
    """

    inspect: Callable[[str], Mapping[str, Any]]
    verify: Callable[[str], Mapping[str, Any]]


def date(text: str) -> datetime | None:
    """Read the date of a theft: a day (its first second, UTC), or a time with its zone; None for an empty text.

    Raises:
        UsageError: it is neither, or has not come yet.
    """
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{text!r} is not a date", where="--since", expected="2026-11-01") from error
    found = found if found.tzinfo else found.replace(tzinfo=UTC)
    if found > datetime.now(UTC):
        raise UsageError(f"{text} has not come yet", where="--since", expected="when the key was stolen")
    return found


def asked(policy: Path, old: PublicKey, new: PublicKey) -> bytes:
    """Return a rendered policy whose roots are the two keys: what ``Engine.inspect`` goes by."""
    return gate.render(Policy(policy, {OLD: Root(OLD, (old,)), NEW: Root(NEW, (new,))}, {}, (), (), (), ()))


def recover(
    registry: Registry,
    ref: Reference,
    signer: Signer,
    engine: Engine,
    since: datetime | None,
    *,
    ours: bool,
    plan: bool,
) -> Recovered:
    """Look at an image; sign it again, platforms too, if it is ours and the old key has signed it.

    Args:
        ours: the user has named this very digest; anything else may be the thief's.

    Raises:
        CountersignError: the image cannot be read, or its signature not written.
    """
    image, found = str(ref), engine.inspect(str(ref))
    seen = [one for each in found["digests"] for one in each["signatures"]]
    by_old = [one for one in seen if _by(one, OLD)]
    if not by_old:
        return Recovered(image, "not the old key's")
    times = sorted({time["at"] for one in by_old for time in one["times"] if time.get("at")})
    says = _says(times, since)
    attestations = sum(bool(one["attestation"]) for one in by_old)

    def became(state: State, code: str = "") -> Recovered:
        return Recovered(image, state, code, says, times, attestations)

    again = any(_by(one, NEW) and not one["attestation"] for one in seen)
    if ours and plan and not again:
        return became("to be signed")
    if ours and not plan:
        signed = [sign.sign(registry, ref.name, target, signer) for target in sign.targets(registry, ref)]
        if any(one.failed for one in signed):
            return became("left")
    verdict = engine.verify(image)
    code = str(verdict["code"])
    if ours or again:
        return became("signed again" if verdict["allow"] else "left", code)
    return became("allowed" if verdict["allow"] else "refused", code)


def _by(one: Mapping[str, Any], root: str) -> bool:
    return any(opinion["root"] == root and opinion["ok"] for opinion in one["roots"])


def _says(times: Sequence[str], since: datetime | None) -> Said:
    if not times or since is None:
        return "no time"
    return "since" if any(datetime.fromisoformat(time) >= since for time in times) else "before"
