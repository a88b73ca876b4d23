"""The places of a whole run: which this machine can carry, and why it leaves others out."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from countersign.console import output
from countersign.console.config import Settings
from countersign.console.errors import CountersignError, UsageError

PLACES = ("host", "kind", "vagrant", "crio")


@dataclass(frozen=True)
class Wanted:
    """A place, and why it is left out; an empty text means that it is not."""

    place: str
    why_not: str = ""


@dataclass(frozen=True)
class PlaceResult:
    """What came of a place.

    Attributes:
        place: as ``--on`` names it.
        why: why it was left out, or what failed; empty when all came out as it must.
    """

    place: str
    ran: bool
    why: str = ""


def wanted(settings: Settings, on: str = "") -> list[Wanted]:
    """Return the place ``on``, or every place with why it is left out on this machine.

    Raises:
        UsageError: it is none of them.
    """
    if on and on not in PLACES:
        raise UsageError(f"got {on!r}", where="--on", expected=", ".join(PLACES))
    if on:
        return [Wanted(on)]
    from crio.private import program
    from kind.engine import why_not
    from machines.providers import choose

    return [
        Wanted("host", "" if os.geteuid() == 0 else "a containerd of our own needs root"),
        Wanted("kind", why_not(settings)),
        Wanted("vagrant", _why_not(settings, choose)),
        Wanted("crio", _why_not(settings, program)),
    ]


def _why_not(settings: Settings, find: Callable[[Settings], object]) -> str:
    try:
        find(settings)
    except CountersignError as error:
        return str(error)
    return ""


def run_places(settings: Settings, places: Sequence[Wanted], work: Callable[[str], object]) -> list[PlaceResult]:
    """Work on each place in turn; a failure ends the run after what came of all so far was written down.

    When the run began (seconds since 1970) is written too: what is older, the run did not try.

    Raises:
        whatever ``work`` does.
    """
    results: list[PlaceResult] = []
    began = time.time()
    try:
        for each in places:
            if each.why_not:
                output.skipped(f"{each.place} left out: {each.why_not}")
                results.append(PlaceResult(each.place, ran=False, why=each.why_not))
                continue
            output.say(f"on {each.place}:")
            try:
                work(each.place)
            except BaseException as error:
                results.append(PlaceResult(each.place, ran=True, why=_reason(error)))
                raise
            results.append(PlaceResult(each.place, ran=True))
    finally:
        folder = settings.state / "report"
        folder.mkdir(parents=True, exist_ok=True)
        document = json.dumps([{**asdict(result), "began": began} for result in results], indent=2)
        (folder / "places.json").write_text(document + "\n", encoding="utf-8")
    return results


def _reason(error: BaseException) -> str:
    return str(error) if isinstance(error, CountersignError) else f"{type(error).__name__}: {error}"
