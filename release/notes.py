"""What is said of a release where it is published: its changes, and how a stranger verifies it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from countersign.nodes.template import render
from release import page, verifying
from release import version as versions
from release.trust import ByIdentity, ByKey, Trust

if TYPE_CHECKING:
    from release.made import Release
    from release.model import Project

TEMPLATE = Path(__file__).resolve().parent / "notes.md.j2"


def write(project: Project, release: Release, trusted: Trust) -> str:
    """Return the notes, in Markdown; files of trust are named as in the folder where a stranger puts them."""
    changes = versions.notes(project.changelog, release.release) if project.changelog else f"{release.title}."
    there: Trust = trusted
    if isinstance(trusted, ByKey):
        there = ByKey(Path(trusted.key.name))
    elif isinstance(trusted, ByIdentity):
        there = replace(trusted, trusted_root=Path(trusted.trusted_root.name))
    notary = verifying.certified(project)
    if notary:
        notary = replace(notary, roots=tuple(Path(each.name) for each in notary.roots))
    lines = page.commands(release, there, None, notary, tags=True)
    return render(TEMPLATE, changes=changes, release=release, who=there.shown(), commands=lines).decode()
