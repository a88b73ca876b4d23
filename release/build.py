"""A commit → its programs, images, packages and source archive; equal commits give equal bytes."""

from __future__ import annotations

import gzip
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from countersign.console.errors import UsageError
from countersign.oci.build import write_layout
from countersign.oci.descriptor import read_descriptors, read_object
from release import compile as compiling
from release import containers, git, packages, tarball
from release import version as versions
from release.made import File, Folder, Image, Release, sha256
from release.packages import Shelf

if TYPE_CHECKING:
    from countersign.console.config import Settings
    from release.model import Image as Described
    from release.model import Project


class Show(Protocol):
    """Shows one piece of work while a block runs."""

    def __call__(self, text: str) -> AbstractContextManager[object]:
        """Open the block."""


def build(
    settings: Settings, project: Project, version: str, commit: git.Commit, folder: Folder, show: Show
) -> Release:
    """Build all that a release consists of, from the commit's own files; what the folder had before goes.

    Raises:
        InfrastructureError: something does not build.
        MissingError: this machine lacks a tool.
    """
    buildah = containers.program(settings, project)
    release = Release(project.name, version, project.source, commit.id, commit.epoch)
    for each in (folder.files, folder.path / "images"):
        shutil.rmtree(each, ignore_errors=True)
        each.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="source-", dir=folder.path) as scratch:
        with show("source"):
            source = _unpacked(project, release, commit, Path(scratch))
        files = [_archived(Path(scratch, "source.tar"), release, folder)] if project.archive else []
        programs, built = _programs(settings, project, version, source, folder, show)
        shelf = Shelf(project, version, commit, source, built)
        files += [*programs, *_packages(settings, shelf, folder, show), *_others(shelf, release, folder)]
        with show("images"):
            tags = versions.tags(version, commit.id)
            images = [
                Image(each.name, *_image(buildah, shelf, each, folder), tags, each.programs) for each in project.images
            ]
    return replace(release, files=tuple(files), images=tuple(images))


def _unpacked(project: Project, release: Release, commit: git.Commit, scratch: Path) -> Path:
    """Return a folder with the commit's files: what is not committed has no part in a release."""
    archive = scratch / "source.tar"
    git.archive(project.root, commit, release.title, archive)
    with tarfile.open(archive) as opened:
        opened.extractall(scratch, filter="data")
    return scratch / release.title


def _archived(tar: Path, release: Release, folder: Folder) -> File:
    name = f"{release.title}.tar.gz"
    with (
        tar.open("rb") as content,
        folder.file(name).open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", compresslevel=9, mtime=release.epoch, fileobj=raw) as packed,
    ):
        shutil.copyfileobj(content, packed)
    return File(name, "source", sha256(folder.file(name)))


def _programs(
    settings: Settings, project: Project, version: str, source: Path, folder: Folder, show: Show
) -> tuple[list[File], Mapping[str, Mapping[str, Path]]]:
    """Return the programs as files of the release, and platform → name → where each lies."""
    go = compiling.toolchain(settings)
    files = []
    built: dict[str, dict[str, Path]] = {platform: {} for platform in project.platforms}
    for platform in project.platforms:
        for program in project.programs:
            into = folder.file(f"{program.name}-{version}-{platform.replace('/', '-')}")
            with show(f"{program.name} for {platform}"):
                compiling.build(go, source, program, platform, version, into)
            into.chmod(0o755)
            built[platform][program.name] = into
            files.append(File(into.name, "program", sha256(into), platform, program.name))
    return files, built


def _packages(settings: Settings, shelf: Shelf, folder: Folder, show: Show) -> Iterator[File]:
    for package in shelf.project.packages:
        for packager in package.formats:
            for platform in shelf.project.platforms:
                into = folder.file(packages.file_name(package, shelf.version, platform, packager))
                with show(into.name):
                    packages.make(settings, shelf, package, packager, platform, into)
                yield File(into.name, "package", sha256(into), platform)


def _others(shelf: Shelf, release: Release, folder: Folder) -> Iterator[File]:
    """Yield what is released as it is: a file by its name, a folder as an archive.

    Raises:
        UsageError: the commit does not have it, or the release has another file of that name.
    """
    for text in shelf.project.files:
        source = shelf.source / text
        name = f"{release.title}-{source.name}{'.tar.gz' if source.is_dir() else ''}"
        if not source.exists() or folder.file(name).exists():
            what = f"{text} would be {name}, which is there" if source.exists() else f"{text} is not committed"
            raise UsageError(what, where="release.yaml: files", expected="a committed file or folder of another name")
        if source.is_dir():
            paths = sorted(path for path in source.rglob("*") if path.is_file() and not path.is_symlink())
            packed = tarball.pack({str(path.relative_to(source.parent)): path for path in paths}, release.epoch)
            folder.file(name).write_bytes(packed)
        else:
            shutil.copyfile(source, folder.file(name))
        yield File(name, "file", sha256(folder.file(name)))


def _image(buildah: Path | None, shelf: Shelf, image: Described, folder: Folder) -> tuple[str, Mapping[str, str]]:
    """Write an image's layout; return the digests of its index and of each platform's manifest."""
    layout = folder.layout(image.name)
    layout.mkdir(parents=True)
    if image.layout:
        return containers.take(shelf.project.root / image.layout, shelf.project, layout)
    labels = {
        "org.opencontainers.image.title": image.name,
        "org.opencontainers.image.version": shelf.version,
        "org.opencontainers.image.revision": shelf.commit.id,
        "org.opencontainers.image.source": shelf.project.source,
        "org.opencontainers.image.created": shelf.commit.time,
    }
    if buildah and image.containerfile:
        return containers.build(buildah, shelf, image, labels, layout)
    first, *others = ({platform: own[name] for platform, own in shelf.programs.items()} for name in image.programs)
    beside = dict(zip(image.programs[1:], others, strict=True))
    digest = write_layout(layout, image.programs[0], first, beside, labels=labels, created=shelf.commit.time)
    index = read_object((layout / "blobs" / digest.replace(":", "/")).read_bytes(), str(layout))
    manifests = read_descriptors(index, "manifests", str(layout))
    return digest, {f"{each.platform['os']}/{each.platform['architecture']}": each.digest for each in manifests}
