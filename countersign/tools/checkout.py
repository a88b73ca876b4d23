"""Whether this checkout is a release: exactly at the tag of its own version, with nothing changed in a folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def version(root: Path) -> str:
    """Return the version that a checkout has; empty if it says none."""
    try:
        return str(tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def difference(root: Path, folder: str, tag: str) -> str:
    """Return what tells a checkout's folder from a tag; empty if nothing does.

    Args:
        folder: within it; files that git ignores count, since a build would take them too.
    """
    if _git(root, "rev-parse", "--show-toplevel") != str(root.resolve()):
        return "this is not a git checkout of its own"
    tagged = _git(root, "rev-parse", "--verify", "--quiet", f"refs/tags/{tag}^{{commit}}")
    if not tagged:
        return f"there is no tag {tag}"
    if _git(root, "rev-parse", "--verify", "--quiet", "HEAD^{commit}") != tagged:
        return f"this checkout is not at the tag {tag}"
    changed = _git(root, "status", "--porcelain", "--ignored", "--untracked-files=all", "--", folder)
    if changed is None:
        return "git does not say what has changed"
    return f"{changed.splitlines()[0][3:]} is not as in the tag {tag}" if changed else ""


def _git(root: Path, *words: str) -> str | None:
    """Return what git says; None if it fails, or is not there."""
    try:
        ended = subprocess.run(["git", *words], cwd=root, capture_output=True, check=False)
    except OSError:
        return None
    return ended.stdout.decode(errors="replace").rstrip("\n") if ended.returncode == 0 else None
