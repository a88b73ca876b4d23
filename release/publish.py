"""A verified release is published, wholly or not at all: a draft, its files, the images' tags, then the release."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from countersign.console.errors import CountersignError, InfrastructureError, UsageError
from countersign.oci.registry import Registry
from release.made import Release
from release.push import check_free

if TYPE_CHECKING:
    from release.github import GitHub


def publish(
    registry: Registry, release: Release, files: list[Path], notes: str,
    github: GitHub | None, verified: Callable[[], None], told: Callable[[str], object],
) -> None:  # fmt: skip
    """Publish a release that was verified without its tags.

    Args:
        registry: where its images lie.
        release: what it consists of.
        files: what is added to the release on GitHub.
        notes: what is said of it there.
        github: where; None to move tags only.
        verified: verifies all of it, tags included, before anybody can see it on GitHub; raises if it is refused.
        told: takes a line about each thing that was done.

    Raises:
        CountersignError: something failed; everything is as it was before, or the error says what is left.
    """
    tag = f"v{release.release}"
    with ExitStack() as undo:
        number = 0
        if github:
            number = _drafted(github, release, tag, notes, files, undo)
            told(f"draft {tag} with {len(files)} files")
        moved = move_tags(registry, release)
        undo.callback(put_tags_back, registry, moved)
        told(f"tags: {', '.join(map(str, moved)) or 'all there'}")
        verified()
        if github:
            _scanned(github, release, tag, files, told)
            github.publish(number)
            told(f"release {tag}")
        undo.pop_all()


def _scanned(github: GitHub, release: Release, tag: str, files: list[Path], told: Callable[[str], object]) -> None:
    """Give code scanning the result of the scan, where there is one; nobody but the project sees that."""
    for path in files:
        if release.scanned and path.name == release.sarif:
            taken = github.scanned(tag, release.commit, path.read_bytes())
            why = "not given: the repository has it off, or the token lacks security-events: write"
            told(f"code scanning: {path.name if taken else why}")


def plan(release: Release, github: GitHub | None) -> list[str]:
    """Return what `publish` would do."""
    moving = [f"tag {image.repository}:{tag} -> {image.digest}" for image in release.images for tag in image.tags]
    there = [f"release v{release.release} at {github.repository}, a draft first"] if github else []
    return [*there, *moving]


def _drafted(github: GitHub, release: Release, tag: str, notes: str, files: list[Path], undo: ExitStack) -> int:
    if github.numbers(tag):
        do = "a version is released once; a draft that an earlier run left is yours to remove"
        raise UsageError("is there already, as a release or draft", where=f"{github.repository} {tag}", do=do)
    had_tag = github.tag_there(tag)
    undo.callback(_removed, github, tag, had_tag=had_tag)
    draft = github.draft(tag, release.commit, notes, prerelease="-" in release.release)
    for path in files:
        github.upload(draft, path)
    return int(draft["id"])


def _removed(github: GitHub, tag: str, *, had_tag: bool) -> None:
    """Remove what this run made on GitHub, whether or not its answers arrived.

    Raises:
        InfrastructureError: with what is left.
    """
    left = [_tried("the release", lambda: _remove_releases(github, tag))]
    if not had_tag:
        left.append(_tried("the tag", lambda: github.remove_tag(tag)))
    if any(left):
        where = f"{github.repository} {tag}"
        what = ", ".join(filter(None, left))
        raise InfrastructureError(f"could not be taken back: {what}", where=where, do="remove it by hand")


def _tried(what: str, work: Callable[[], None]) -> str:
    """Do something, twice if need be; return what and why if it cannot be done."""
    try:
        work()
    except CountersignError:
        try:
            work()
        except CountersignError as err:
            return f"{what} ({err.found})"
    return ""


def _remove_releases(github: GitHub, tag: str) -> None:
    for number in github.numbers(tag):
        github.remove(number)


@dataclass(frozen=True)
class Moved:
    """A tag that was moved.

    Attributes:
        before: what it pointed at; empty where there was no such tag.
    """

    repository: str
    tag: str
    before: str

    def __str__(self) -> str:
        """Return ``repository:tag``."""
        return f"{self.repository}:{self.tag}"


def move_tags(registry: Registry, release: Release) -> list[Moved]:
    """Point the tags of every image at its index; return those that were moved, or put all back and raise.

    Raises:
        RegistryError: a registry fails; the version's own tag, which people name, goes last.
        UsageError: a version's tag points at another image already.
        InfrastructureError: a registry fails, and takes nothing back either.
    """
    for image in release.images:
        check_free(registry, image, release.release)
    wanted = [(image, tag) for image in release.images for tag in image.tags]
    moved: list[Moved] = []
    try:
        for image, tag in sorted(wanted, key=lambda each: each[1] == release.release):
            content, what = registry.manifest(image.repository, image.digest)
            found = registry.manifest_or_none(image.repository, tag)
            if found is None or found[1].digest != image.digest:
                moved.append(
                    Moved(image.repository, tag, found[1].digest if found else "")
                )  # also if its answer is lost
                registry.put_manifest(image.repository, tag, content, what.media_type)
    except BaseException:
        put_tags_back(registry, moved)
        raise
    return moved


def put_tags_back(registry: Registry, moved: list[Moved]) -> None:
    """Point tags at what they pointed at before, and remove those that are new.

    Raises:
        InfrastructureError: with the tags that could not be put back.
    """
    left = list(filter(None, (_put_back(registry, each) for each in reversed(moved))))
    if left:
        raise InfrastructureError(f"tags could not be put back: {', '.join(left)}", do="put them back by hand")


def _put_back(registry: Registry, moved: Moved) -> str:
    """Put one tag back; return which, and why, if that cannot be done."""
    try:
        if moved.before:
            content, what = registry.manifest(moved.repository, moved.before)
            registry.put_manifest(moved.repository, moved.tag, content, what.media_type)
        elif registry.manifest_or_none(moved.repository, moved.tag) is not None:
            registry.delete_manifest(moved.repository, moved.tag)
    except CountersignError as err:
        return f"{moved} ({err.found})"
    return ""
