"""Task: bring a trusted root up to date."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke.context import Context

from countersign.console.config import Settings, settings_from
from countersign.console.errors import UsageError
from countersign.console.output import done, emit_json, say, skipped, warn
from countersign.console.task import task

if TYPE_CHECKING:
    from countersign.trust.listing import Difference


@task(
    help={
        "out": "the trusted_root.json to bring up to date (default: the one that the policy names)",
        "file": "take it from this file; without, it is fetched by TUF",
        "url": "the TUF repository (default: that of the public Sigstore)",
        "anchor": "its root.json, from a source that you trust (for the public Sigstore's, one is built in)",
        "plan": "show the difference, and change nothing",
        "json": "one JSON document on stdout",
    }
)
def update(
    context: Context,
    out: str = "",
    file: str = "",
    url: str = "",
    anchor: str = "",
    plan: bool = False,
    json: bool = False,
) -> None:
    """Bring a trusted root up to date, by TUF or from a file, and show what changed; policy.apply takes it to nodes.

    Example: ./inv trust.update --plan
    """
    from countersign.trust import update as updating

    settings = settings_from(context)
    if file and (url or anchor):
        raise UsageError("got both", where="--file, --url or --anchor", expected="a file, or a repository")
    place = _place(settings, out)
    source, content = _content(settings, file, url, anchor)
    there, now = updating.present(place), dt.datetime.now(dt.timezone.utc)
    entries, difference = updating.check(content, source, there, now)
    _show(difference)
    for line in updating.soon(entries, now):
        warn(line)
    former = None
    if content == there:
        skipped(f"{place} is up to date")
    elif plan:
        say(f"would: write {place}")
    else:
        former = updating.write(place, content)
        done(f"{place}, from {source}" + (f"; the former one is {former}" if former else ""))
        say("  nodes get it with the policy: ./inv policy.apply --on PLACE")
    if json:
        written = content != there and not plan
        kept = {"file": str(place), "source": source, "former": str(former) if former else None}
        emit_json({"version": "countersign.trust-update/v1", **kept, "written": written, **_document(difference)})


def _place(settings: Settings, out: str) -> Path:
    """Return which file is meant."""
    from countersign.trust.update import files_of

    if out:
        return Path(out).expanduser().absolute()
    files = files_of(settings.policy)
    if len(files) != 1:
        named = f"{len(files)} ({', '.join(map(str, files))})" if files else "no"
        raise UsageError(f"it names {named} trusted roots", where=str(settings.policy), do="say which one: --out FILE")
    return files[0]


def _content(settings: Settings, file: str, url: str, anchor: str) -> tuple[str, bytes]:
    """Return where the new one comes from, and its content."""
    from countersign.trust import tuf
    from countersign.trust.update import present

    if file:
        content = present(Path(file).expanduser())
        if content is None:
            raise UsageError("no such file", where=file, expected="a trusted_root.json")
        return file, content
    if settings.offline:
        raise UsageError("the network may not be used", where="INVOKE_OFFLINE", do="give a file: --file FILE")
    source = (url or tuf.PUBLIC).rstrip("/")
    root = tuf.anchor(source, Path(anchor).expanduser() if anchor else None)
    return source, tuf.fetch(source, root, settings.state / "tuf")


def _show(difference: Difference) -> None:
    for each in difference.added:
        say(f"  + {each}")
    for each in difference.removed:
        say(f"  - {each}")
    for was, each in difference.changed:
        say(f"  ~ {each} (was: {was.validity})")


def _document(difference: Difference) -> dict[str, Any]:
    return {
        "added": [each.as_json() for each in difference.added],
        "removed": [each.as_json() for each in difference.removed],
        "changed": [{"before": was.as_json(), "now": each.as_json()} for was, each in difference.changed],
    }
