"""Packages for Linux distributions, by nfpm: the same bytes whenever they are made of the same files."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from countersign.console.config import Settings
from countersign.console.errors import InfrastructureError
from countersign.nodes.template import render
from countersign.tools.resolver import tool
from release.git import Commit
from release.model import Package, Packaged, Project

TEMPLATE = Path(__file__).resolve().parent / "nfpm.yaml.j2"


def file_name(package: Package, version: str, platform: str, packager: str) -> str:
    """Return a package's file name, as its distributions have them; a pre-release sorts before the release there."""
    architecture = platform.partition("/")[2]
    if packager == "deb":
        return f"{package.name}_{version.replace('-', '~', 1)}_{architecture}.deb"
    there = {"amd64": "x86_64", "arm64": "aarch64"}[architecture]
    return f"{package.name}-{version.replace('-', '~', 1).replace('-', '_')}-1.{there}.rpm"


@dataclass(frozen=True)
class Shelf:
    """What packages are made of.

    Attributes:
        project: whose packages.
        version: of the release.
        commit: its time is that of every file.
        source: the project's files.
        programs: platform → program's name → file.
    """

    project: Project
    version: str
    commit: Commit
    source: Path
    programs: Mapping[str, Mapping[str, Path]]


def make(settings: Settings, shelf: Shelf, package: Package, packager: str, platform: str, into: Path) -> None:
    """Make one package.

    Args:
        settings: where nfpm is found.
        shelf: of what.
        package: what is in it.
        packager: deb or rpm.
        platform: for what.
        into: the file to write.

    Raises:
        InfrastructureError: nfpm fails.
    """
    nfpm = tool("nfpm", settings)
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=into.parent) as scratch:
        contents = []
        for index, each in enumerate(package.files):
            staged = Path(scratch, str(index))
            _stage(each, shelf.source, shelf.programs[platform], staged)
            contents.append({"source": str(staged), "target": each.target, "mode": f"{each.mode:#o}"})
        folders = {str(PurePosixPath(each.target).parent) for each in package.files}
        scripts = {"postinstall": package.after_install, "preremove": package.before_remove}
        config = Path(scratch, "nfpm.yaml")
        config.write_bytes(
            render(
                TEMPLATE,
                project=shelf.project,
                package=package,
                architecture=platform.partition("/")[2],
                version=shelf.version,
                time=shelf.commit.time,
                contents=contents,
                folders=sorted(each for each in folders if package.name in each.split("/")),  # rpm removes no others
                scripts={name: str(shelf.source / path) for name, path in scripts.items() if path},
            )
        )
        made = Path(scratch, "made")
        argv = [str(nfpm), "package", "--config", str(config), "--packager", packager, "--target", str(made)]
        environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": scratch,
            "SOURCE_DATE_EPOCH": str(shelf.commit.epoch),
            "TZ": "UTC",
        }
        ended = subprocess.run(argv, env=environment, cwd=scratch, capture_output=True, text=True, check=False)
        if ended.returncode:
            said = " ".join((ended.stderr or ended.stdout).split())
            raise InfrastructureError(f"nfpm failed with {ended.returncode}: {said}", where=into.name)
        made.replace(into)


def _stage(file: Packaged, source: Path, programs: Mapping[str, Path], into: Path) -> None:
    """Put a file's content into place, with what is replaced in it."""
    found = programs[file.source[1:-1]] if file.source.startswith("{") else source / file.source
    shutil.copyfile(found, into)
    if file.replace:
        text = into.read_text(encoding="utf-8")
        for old, new in file.replace.items():
            text = text.replace(old, new)
        into.write_text(text, encoding="utf-8")
