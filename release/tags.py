"""The tags of a release's images: moved last, and put back where they were if something fails."""

from __future__ import annotations

from dataclasses import dataclass

from countersign.console.errors import CountersignError, InfrastructureError
from countersign.oci.registry import Registry
from release.made import Release
from release.push import check_free


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


def move(registry: Registry, release: Release) -> list[Moved]:
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
        put_back(registry, moved)
        raise
    return moved


def put_back(registry: Registry, moved: list[Moved]) -> None:
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
