"""Verifies a release and shows what was found, for the tasks that end so."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from invoke.context import Context

    from release.model import Project
    from release.verifying import Verified


def verified(
    context: Context, project: Project, version: str, folder: str, key: str, *, tags: bool, json: bool
) -> None:
    """Verify a release, show every finding and the plain commands, and raise if anything is refused.

    Raises:
        VerdictError: something is refused.
    """
    from countersign.console import output
    from countersign.console.config import settings_from
    from release import verifying

    settings = settings_from(context)
    place = verifying.place(settings, project, version, folder)
    found = verifying.verify(settings, project, version, place, verifying.trusted(project, key), tags=tags)
    say(found)
    if found.commands:
        output.say("the same by hand:")
        for line in found.commands:
            output.say(f"  {line}")
    if json:
        output.emit_json({"version": "countersign.release-verified/v1", **found.as_json()})
    found.check()


def say(found: Verified) -> None:
    """Show every finding, good or refused."""
    from countersign.console import output

    for each in found.findings:
        if each.reason:
            output.failed(f"{each.what}: {each.reason}: {each.detail}")
        else:
            output.done(each.what)
    if found.log:
        output.skipped(f"the transparency log was not looked at: {found.log}")
