"""What git says of the source: its commit, whether it is clean, its tags, and its files as an archive."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from countersign.console.errors import InfrastructureError, MissingError, UsageError


@dataclass(frozen=True)
class Commit:
    """A commit: its id, and when it was made (seconds since the epoch), which is what a release goes by for a date."""

    id: str
    epoch: int

    @property
    def time(self) -> str:
        """The time in RFC 3339, in UTC."""
        return datetime.fromtimestamp(self.epoch, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def head(root: Path) -> Commit:
    """Return the commit that is checked out.

    Raises:
        UsageError: the folder is not in a git repository, or has no commit.
    """
    said = _git(root, "log", "-1", "--format=%H %ct", "HEAD")
    if said is None:
        do = "a release is made from a commit; clone the repository"
        raise UsageError("is not in a git repository with a commit", where=str(root), do=do)
    found, _, epoch = said.partition(" ")
    return Commit(found, int(epoch))


def changed(root: Path) -> list[str]:
    """Return the files that are not as in the commit, and those that git does not know."""
    said = _git(root, "status", "--porcelain", "--no-renames", "-z") or ""
    return [entry[3:] for entry in said.split("\0") if entry]


def files(root: Path) -> list[str]:
    """Return the files below a folder that git has, sorted.

    Raises:
        UsageError: the folder is not in a git repository.
    """
    said = _git(root, "-c", "core.quotePath=false", "ls-files")
    if said is None:
        raise UsageError("is not in a git repository", where=str(root), do="git init, add and commit what is released")
    return sorted(said.splitlines())


def prefix(root: Path) -> str:
    """Return where a folder lies in its repository, as ``services/app/``; empty for the repository's own root."""
    return _git(root, "rev-parse", "--show-prefix") or ""


def remote(root: Path) -> str:
    """Return the URL of the remote ``origin``, as it is configured; empty if there is none."""
    return _git(root, "config", "--get", "remote.origin.url") or ""


def tagged(root: Path, tag: str) -> str:
    """Return the commit that a tag points at; empty if there is no such tag."""
    return _git(root, "rev-parse", "--verify", "--quiet", f"refs/tags/{tag}^{{commit}}") or ""


def archive(root: Path, commit: Commit, prefix: str, into: Path) -> None:
    """Write a commit's files as a tar archive; the user's own git settings have no say in it.

    Raises:
        InfrastructureError: git fails.
    """
    words = ["-c", "tar.umask=0022", "-c", "core.attributesFile=/dev/null", "archive", "--format=tar"]
    if _git(root, *words, f"--prefix={prefix}/", f"--output={into}", commit.id) is None:
        raise InfrastructureError("git archive failed", where=str(root))


def _git(root: Path, *words: str) -> str | None:
    """Return what git says; None if it fails."""
    try:
        ended = subprocess.run(["git", *words], cwd=root, capture_output=True, check=False)
    except FileNotFoundError:
        raise MissingError("there is no git", do="apt-get install git") from None
    return ended.stdout.decode(errors="replace").strip("\n") if ended.returncode == 0 else None
