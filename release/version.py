"""Which version is released, and whether it may be: semver, a clean tree, no such tag, a section of the changelog."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from countersign.console.errors import UsageError
from release import git
from release.model import Project

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_NUMBER = r"(0|[1-9][0-9]{0,8})"
_IDENTIFIER = r"(0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_SEMVER = re.compile(rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(-{_IDENTIFIER}(\.{_IDENTIFIER})*)?")
_MOST = 64  # characters: tags of images and files bear it


def check(text: str) -> str:
    """Return a version, as Semantic Versioning 2.0 has it, without build metadata (no image tag can have a ``+``).

    Raises:
        UsageError: it is none.
    """
    if len(text) > _MOST or not _SEMVER.fullmatch(text):
        bare, _, build = text.removeprefix("v").removeprefix("V").partition("+")
        lacks = "the v" if not build else f"+{build}, which no image tag can have"
        hint = f"leave out {lacks}: {bare}" if bare != text and _SEMVER.fullmatch(bare) else ""
        raise UsageError(f"got {text!r}", where="--version", expected="a version as 1.2.3 or 1.2.3-rc.1", do=hint)
    return text


def own(project: Project) -> str:
    """Return the version that the project's own file has.

    Raises:
        UsageError: there is no such file, or no version in it.
    """
    if project.version_file is None:
        raise UsageError("no version", expected="--version X.Y.Z", do="or name a pyproject.toml in release.yaml")
    try:
        document = tomllib.loads(project.version_file.read_text(encoding="utf-8"))
        found = document["project"]["version"]
    except (OSError, ValueError, KeyError, TypeError) as err:
        where = str(project.version_file)
        raise UsageError("has no version", where=where, expected='version = "X.Y.Z" in [project]') from err
    return check(str(found))


def tags(version: str, commit: str) -> tuple[str, ...]:
    """Return the tags of a release's images: the version, its major.minor unless it is a pre-release, the commit."""
    minor = () if "-" in version else (".".join(version.split(".")[:2]),)
    return (version, *minor, f"sha-{commit[:12]}")


def notes(changelog: Path, version: str) -> str:
    """Return the changelog's section of a version.

    Raises:
        UsageError: there is none, or it is empty.
    """
    found: list[str] = []
    within = False
    for line in changelog.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            heading = line.removeprefix("## ").strip().split(" ")[0].strip("[]").removeprefix("v")
            within = heading == version
        elif within:
            found.append(line)
    text = "\n".join(found).strip()
    if not text:
        do = f"move what is under Unreleased into a section ## {version}"
        raise UsageError(
            f"has nothing about {version}", where=changelog.name, expected=f"a section ## {version}", do=do
        )
    return text


def prepare(project: Project, version: str) -> git.Commit:
    """Check everything that has to hold before a release is made; return the commit that is released.

    Raises:
        UsageError: with what does not hold.
    """
    check(version)
    if project.version_file and (there := own(project)) != version:
        where = project.version_file.name
        raise UsageError(f"has version {there}", where=where, expected=version, do="change it, and commit that")
    if project.changelog:
        notes(project.changelog, version)
    commit = git.head(project.root)
    changed = git.changed(project.root)
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise UsageError(f"{changed[0]}{more} not committed", where=str(project.root), do="commit or stash it")
    tagged = git.tagged(project.root, f"v{version}")
    if tagged and tagged != commit.id:
        raise UsageError(
            f"is there already, at {tagged[:12]}",
            where=f"tag v{version}",
            expected="no such tag, or one at this commit",
            do="a version is released once: take the next one",
        )
    return commit
