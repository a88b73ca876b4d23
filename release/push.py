"""Images of a release to their registry: by digest, so that nothing that has a name changes. Tags come last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from countersign.console.errors import UsageError
from countersign.oci import layout as layouts
from countersign.oci.registry import Registry
from release.made import Folder, Image, Release


def push(registry: Registry, release: Release, base: str, folder: Folder, told: Callable[[str], object]) -> Release:
    """Push every image by digest; return the release with its repositories.

    Raises:
        RegistryError: a registry fails.
        UsageError: a version's tag points at another image already: that version is released.
    """
    images = [replace(each, repository=f"{base}/{each.name}") for each in release.images if each.platforms]
    for image in images:
        check_free(registry, image, release.release)
    for image in images:
        told(f"{image.repository}@{image.digest}")
        layouts.push(registry, image.repository, folder.layout(image.name), image.digest)
    return replace(release, images=tuple(images))


def check_free(registry: Registry, image: Image, version: str) -> None:
    """Raise ``UsageError`` if a version's tag points at another image already: that version is released."""
    found = registry.manifest_or_none(image.repository, version)
    if found and found[1].digest != image.digest:
        where = f"{image.repository}:{version}"
        raise UsageError(
            f"is there already, at {found[1].digest}", where=where, expected=image.digest,
            do="a version is released once: take the next one",
        )  # fmt: skip
