"""Running the parts: which are chosen, which cannot run, which failed."""

from __future__ import annotations

import time
from collections.abc import Sequence

from countersign.console import output
from countersign.console.config import ROOT, Settings
from countersign.console.errors import CountersignError, MissingError, UsageError
from countersign.console.sources import nearest
from tests import turns
from tests.failures import CheckFailed
from tests.parts import PARTS, Part, pytest, spent


def run_parts(chosen: Sequence[str], require: str, settings: Settings) -> None:
    """Run the chosen parts (if none is named, all that are on turn), pytest's last and in one run.

    Args:
        chosen: names of parts.
        require: names with commas between them, or ``all``: these may not be skipped.
        settings: where tools come from.

    Raises:
        UsageError: an unknown name.
        CheckFailed: a part failed; the others were run all the same.
        MissingError: a required part cannot run here.
    """
    parts = _select(chosen)
    required = {part.name for part in _select([] if require == "all" else require.split(","))} if require else set()
    off = set() if chosen else turns.off_turn(settings.tests.turn, turns.commit())
    for part in (part for part in parts if part.name in off):
        output.skipped(f"{part.name} skipped: it is not this commit's turn; ./inv test --part {part.name}")
    parts, required = [part for part in parts if part.name not in off], required - off
    skipped, failed, folders = [], [], []
    for part in sorted(
        parts, key=lambda each: each.check is None
    ):  # what has to be built for pytest's may come meanwhile
        if not _can_run(part, settings):
            skipped.append(part.name)
        elif part.check and not _passes(part, settings):
            failed.append(part.name)
        elif part.folder:
            folders.append(part.folder)
    if folders:
        try:
            pytest(folders)
        except CheckFailed as failure:
            output.say(f"  {failure}")
            failed.append("pytest")
    if failed:
        raise CheckFailed("failed: " + ", ".join(failed))
    if required & set(skipped):
        raise MissingError("required, but not run: " + ", ".join(sorted(required & set(skipped))))


def names(chosen: Sequence[str], settings: Settings) -> list[str]:
    """Return the names of the parts that ``run_parts`` would run or skip for want of something.

    Raises:
        UsageError: an unknown name.
    """
    off = set() if chosen else turns.off_turn(settings.tests.turn, turns.commit())
    return [part.name for part in _select(chosen) if part.name not in off]


def _select(names: Sequence[str]) -> list[Part]:
    known = {part.name: part for part in PARTS}
    unknown = [name for name in names if name.strip() not in known]
    if unknown:
        near = nearest(unknown[0], known)
        do = f"did you mean {near}?" if near else ""
        raise UsageError("no such part", where=", ".join(unknown), expected="some of " + ", ".join(known), do=do)
    return [part for part in PARTS if not names or part.name in {name.strip() for name in names}]


def _can_run(part: Part, settings: Settings) -> bool:
    """Return whether the part can run here; if not, say why."""
    try:
        if part.folder and not (ROOT / part.folder).is_dir():
            raise MissingError("there is no such folder", where=part.folder)
        part.need(settings)
    except CountersignError as error:
        output.skipped(f"{part.name} skipped: {error}")
        return False
    return True


def _passes(part: Part, settings: Settings) -> bool:
    """Return whether the part's own check passes; its findings are shown."""
    if part.check is None:
        return True
    start = time.monotonic()
    try:
        with output.progress(part.name):
            part.check(settings)
    except CountersignError as failure:
        output.say(f"  {failure}")
        return False
    output.say(f"  {spent(part, time.monotonic() - start)}")
    return True
